//! Requests and answers of `Control:Rotation:1.0`, by control-rotation.cddl.

use ciborium::Value;

use super::keys::Certificate;
use super::wire::Wire;
use super::{Found, broken, hold};

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Carried out.
    Done {
        /// Whether anything changed.
        changed: bool,
        /// The notes' names.
        notes: Vec<String>,
        /// The state after it.
        status: Value,
    },
    /// Refused, with this code.
    Refused(String),
}

impl Answer {
    /// The state after a command that was carried out.
    ///
    /// # Errors
    /// Where it was refused.
    pub fn done(self) -> Found<Value> {
        match self {
            Self::Done { status, .. } => Ok(status),
            Self::Refused(code) => broken(format!("refused with {code}")),
        }
    }

    /// Checks that it was carried out and whether it changed anything.
    ///
    /// # Errors
    /// Where it was not, or otherwise.
    pub fn changed(self, expected: bool) -> Found<Value> {
        if let Self::Done { changed, .. } = self {
            hold(
                changed == expected,
                format!("answered as {}changed", if changed { "" } else { "un" }),
            )?;
        }
        self.done()
    }

    /// Checks that it was refused with this code.
    ///
    /// # Errors
    /// Where it was not.
    pub fn refused(&self, code: &str) -> Found {
        match self {
            Self::Refused(with) if with == code => Ok(()),
            Self::Refused(with) => broken(format!("refused with {with}, not {code}")),
            Self::Done { .. } => broken(format!("carried out, not refused with {code}")),
        }
    }
}

/// A number.
#[must_use]
pub fn number(number: u64) -> Value {
    Value::Integer(number.into())
}

/// A request, or another enumeration: a number and its fields.
#[must_use]
pub fn request(kind: u64, fields: Vec<(u64, Value)>) -> Value {
    Value::Array(vec![number(kind), map(fields)])
}

/// A structure.
#[must_use]
pub fn map(fields: Vec<(u64, Value)>) -> Value {
    let fields = fields
        .into_iter()
        .map(|(key, value)| (number(key), value))
        .collect();
    Value::Map(fields)
}

/// keygen; where one waits: 0 refuse, 1 replace, 2 keep.
#[must_use]
pub fn keygen(if_pending: u64) -> Value {
    request(0, vec![(0, number(if_pending))])
}

/// import-opcert.
#[must_use]
pub fn import(certificate: &Certificate, replace: bool) -> Value {
    request(2, vec![(0, imported(certificate, replace))])
}

/// activate with a certificate.
#[must_use]
pub fn activate(certificate: &Certificate, allow_lower: bool) -> Value {
    let lower = Value::Bool(allow_lower);
    request(3, vec![(0, imported(certificate, true)), (1, lower)])
}

fn imported(certificate: &Certificate, replace: bool) -> Value {
    map(vec![
        (0, Value::Bytes(certificate.bytes())),
        (2, Value::Bool(replace)),
    ])
}

/// A request without fields: 1 export-verkey, 3 activate, 4 status, 5 drop-pending, 6 drop-active.
#[must_use]
pub fn plain(kind: u64) -> Value {
    request(kind, Vec::new())
}

/// The frame of an item.
#[must_use]
pub fn frame(item: &Value) -> Vec<u8> {
    let mut content = Vec::new();
    let _ = ciborium::into_writer(item, &mut content);
    let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &content].concat()
}

/// Reads a frame with exactly one item in it (ROT-1).
///
/// # Errors
/// Where it is none.
pub fn read_frame(wire: &Wire) -> Found<Value> {
    read_frame_of(wire, wire.number(4)?)
}

/// Reads the client's next request; `None` where it has closed.
///
/// # Errors
/// Where it is no frame with exactly one item in it.
pub fn read_request(wire: &Wire) -> Found<Option<Value>> {
    let Some(first) = wire.next_byte()? else {
        return Ok(None);
    };
    let length = u64::from(first) << 24 | wire.number(3)?;
    read_frame_of(wire, length).map(Some)
}

fn read_frame_of(wire: &Wire, length: u64) -> Found<Value> {
    if !(1..=65_536).contains(&length) {
        return broken(format!("a frame of {length} bytes"));
    }
    let content = wire.read(usize::try_from(length).unwrap_or_default())?;
    let mut rest = &content[..];
    match ciborium::from_reader(&mut rest) {
        Ok(item) if rest.is_empty() => Ok(item),
        Ok(_) => broken("a frame with more than one CBOR item"),
        Err(error) => broken(format!("a frame that is no CBOR: {error}")),
    }
}

/// A structure's field.
#[must_use]
pub fn field(map: &Value, key: u64) -> Option<&Value> {
    let fields = map.as_map()?.iter();
    let mut found = fields.filter(|(name, _)| *name == number(key));
    found.next().map(|(_, value)| value)
}

/// A structure's number.
#[must_use]
pub fn number_at(map: &Value, key: u64) -> Option<u64> {
    field(map, key)?.as_integer()?.try_into().ok()
}

/// An enumeration's number and fields.
#[must_use]
pub fn variant(value: &Value) -> Option<(u64, &Value)> {
    match &value.as_array()?[..] {
        [kind, fields] => Some((kind.as_integer()?.try_into().ok()?, fields)),
        _ => None,
    }
}

/// Takes an answer apart, as the CDDL has it (ROT-5).
///
/// # Errors
/// Where it is none.
pub fn read_answer(wire: &Wire) -> Found<Answer> {
    let item = read_frame(wire)?;
    let Some((kind, fields)) = variant(&item) else {
        return broken("an answer that is not [number, fields]");
    };
    let text = |map: &Value, key| field(map, key).and_then(Value::as_text).map(str::to_owned);
    let answer = match kind {
        0 => (|| {
            let notes = match field(fields, 1) {
                Some(notes) => notes.as_array()?.iter().map(|note| text(note, 0)).collect(),
                None => Some(Vec::new()),
            };
            Some(Answer::Done {
                changed: field(fields, 0)?.as_bool()?,
                notes: notes?,
                status: field(fields, 2)?.clone(),
            })
        })(),
        1 => (|| {
            let refusal = field(fields, 0)?;
            let sentences = [text(refusal, 1)?, text(refusal, 2)?];
            let are_said = sentences.iter().all(|sentence| !sentence.is_empty());
            are_said.then(|| text(refusal, 0).map(Answer::Refused))?
        })(),
        _ => None,
    };
    answer.map_or_else(|| broken(format!("an answer that is none: {item:?}")), Ok)
}

/// One request and its answer.
///
/// # Errors
/// Where there is none.
pub fn call(wire: &Wire, request: &Value) -> Found<Answer> {
    wire.send(&frame(request))?;
    read_answer(wire)
}

/// The pending slot of a status: 0 empty, 1 key, 2 certified, 3 scheduled; and its key.
///
/// # Errors
/// Where the status has none.
pub fn pending(status: &Value) -> Found<(u64, Option<Vec<u8>>)> {
    slot(status, 8)
}

/// The active slot of a status: 0 empty, 1 serving, 2 expired, 3 dropped; and its key.
///
/// # Errors
/// Where the status has none.
pub fn active(status: &Value) -> Found<(u64, Option<Vec<u8>>)> {
    slot(status, 9)
}

fn slot(status: &Value, key: u64) -> Found<(u64, Option<Vec<u8>>)> {
    match field(status, key).and_then(variant) {
        Some((kind, fields)) => {
            let vkey = field(fields, 0).and_then(Value::as_bytes).cloned();
            Ok((kind, vkey))
        }
        None => broken(format!("a status without its field {key}")),
    }
}
