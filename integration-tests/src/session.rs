//! Recorded sessions with the reference agent.

use kes_wire::protocol::Reader;
use serde_json::Value;

use crate::shared;

/// What each side of a recorded connection sent, whole: borders between reads mean nothing.
pub struct Session {
    /// The agent's bytes.
    pub from_agent: Vec<u8>,
    /// The client's bytes.
    pub from_client: Vec<u8>,
}

/// The recording of this name; `None` where there are none.
///
/// # Panics
/// Where the recording is not one.
#[must_use]
pub fn recorded(name: &str) -> Option<Session> {
    let text = shared::text(&format!("transcripts/{name}.jsonl"))?;
    let mut session = Session {
        from_agent: Vec::new(),
        from_client: Vec::new(),
    };
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("a line of JSON");
        let hex = line["hex"].as_str().unwrap_or_default();
        let bytes = hex::decode(hex).expect("hex");
        match line["dir"].as_str() {
            Some("server->client") => session.from_agent.extend(bytes),
            Some("client->server") => session.from_client.extend(bytes),
            other => panic!("a direction, not {other:?}"),
        }
    }
    Some(session)
}

/// Feeds bytes to a reader, in pieces, until it gives an item; what is left stays in `bytes`.
///
/// # Panics
/// Where the reader refuses the bytes.
pub fn next<R: Reader>(reader: &mut R, bytes: &mut &[u8], piece: usize) -> Option<R::Item>
where
    R::Error: std::fmt::Debug,
{
    while !bytes.is_empty() {
        let into = reader.wants();
        let count = into.len().min(piece).min(bytes.len());
        into[..count].copy_from_slice(&bytes[..count]);
        *bytes = &bytes[count..];
        if let Some(item) = reader.advance(count).expect("readable bytes") {
            return Some(item);
        }
    }
    None
}
