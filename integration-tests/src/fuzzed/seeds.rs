//! Where fuzzing begins: the specification's vectors, each for the target that reads such bytes, and
//! a file of each kind. Without them mutation finds no record with a right hash and no certificate.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The folders of vectors that a target reads; `files` has what is no vector.
const VECTORS: &[(&str, &[&str])] = &[
    ("handshake", &["handshake"]),
    ("service", &["service-1.0", "service-2.0", "service-result"]),
    (
        "deployed-requests",
        &["control", "control-1.0", "control-2.0", "control-3.0"],
    ),
    (
        "deployed-answers",
        &["control", "control-1.0", "control-2.0", "control-3.0"],
    ),
    ("rotation", &["rotation"]),
    ("certificates", &["certificates"]),
    ("envelopes", &["envelopes"]),
    ("genesis", &[]),
    ("configuration", &[]),
    ("kept-memory", &["kept-memory"]),
    ("live-state", &[]),
];

/// What is not among the vectors: a target, and a file that it reads.
const FILES: &[(&str, &str)] = &[
    (
        "genesis",
        "{\"systemStart\":\"2022-10-25T00:00:00Z\",\"networkMagic\":2,\"slotLength\":1,\
         \"slotsPerKESPeriod\":129600,\"maxKESEvolutions\":62}",
    ),
    (
        "genesis",
        "{\"systemStart\":\"2017-09-23T21:44:51Z\",\"networkMagic\":764824073,\"slotLength\":0.1,\
         \"slotsPerKESPeriod\":1,\"maxKESEvolutions\":64}",
    ),
    (
        "genesis",
        "{\"systemStart\":\"2026-01-01T00:00:00.5Z\",\"networkMagic\":42,\"slotLength\":1e-1,\
         \"slotsPerKESPeriod\":3600,\"maxKESEvolutions\":2}",
    ),
    ("configuration", include_str!("../../../deploy/agent.toml")),
    (
        "configuration",
        "service-path = \"/run/s\"\ncontrol-path = \"\"\nbootstrap-paths = [\"/p\"]\n\
         service-socket-mode = \"0660\"\nservice-allow-users = [\"0\", \"nobody\"]\n\
         control-allow-groups = [\"0\"]\nmax-connections = 10\nmax-connections-per-user = 2\n\
         sandbox = \"off\"\nclock = \"strict\"\nlog-level = \"debug\"\nlog-format = \"json\"\n",
    ),
    (
        "envelopes",
        "{\"type\":\"StakePoolSigningKey_ed25519\",\"description\":\"\",\"cborHex\":\
         \"58200707070707070707070707070707070707070707070707070707070707070707\"}",
    ),
    (
        "envelopes",
        "{\"type\":\"StakePoolExtendedSigningKey_ed25519_bip32\",\"cborHex\":\"5880\"}",
    ),
];

/// The inputs that fuzzing a target begins with.
///
/// # Panics
/// For a target that there is not, and where the vectors are not there.
#[must_use]
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let (_, folders) = VECTORS
        .iter()
        .find(|(name, _)| *name == target)
        .unwrap_or_else(|| panic!("no seeds for {target}"));
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors");
    let of_vectors = folders
        .iter()
        .flat_map(|folder| vectors_in(&vectors.join(folder)))
        .map(|(name, bytes)| as_input(target, &name, bytes));
    let files = FILES.iter().filter(|(name, _)| *name == target);
    of_vectors
        .chain(files.map(|(_, text)| text.as_bytes().to_vec()))
        .collect()
}

/// The names and bytes of a folder of vectors.
fn vectors_in(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).expect("vectors are there");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read(&path).expect("readable");
        let vector: Value = serde_json::from_slice(&text).expect("JSON");
        let bytes = match vector["hex"].as_str() {
            Some(digits) => hex::decode(digits).expect("hex"),
            None => vector["text"].as_str().expect("text").as_bytes().to_vec(),
        };
        let name = path
            .file_name()
            .expect("a file")
            .to_string_lossy()
            .into_owned();
        (name, bytes)
    };
    paths.into_iter().map(read).collect()
}

/// A vector as the target reads it: for kept memory a byte says whether a head or a record follows.
fn as_input(target: &str, name: &str, bytes: Vec<u8>) -> Vec<u8> {
    match target {
        "kept-memory" => [vec![u8::from(name.starts_with("record"))], bytes].concat(),
        _ => bytes,
    }
}
