//! A vector's file, and the folder of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

/// A vector: bytes, what reads them, and what they say or why they are refused.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Vector {
    /// What it shows.
    pub(crate) shows: String,
    /// The requirements that it shows.
    pub(crate) requirements: Vec<String>,
    /// The protocol versions that it belongs to; none for keys, certificates and files.
    pub(crate) versions: Vec<String>,
    /// What the bytes are to be read as.
    pub(crate) read_as: String,
    /// What the reader knows beside the bytes.
    pub(crate) given: Map<String, Value>,
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
    /// What the bytes say, or why they are refused.
    pub(crate) outcome: Result<Value, String>,
}

/// Vectors by name, such as `service-2.0/key`.
pub(crate) type Vectors = BTreeMap<String, Vector>;

impl Vector {
    /// A field of what is given, as text.
    pub(crate) fn given(&self, name: &str) -> &str {
        self.given[name].as_str().expect("a text that is given")
    }

    /// A field of what is given, as a number.
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.given[name].as_u64().expect("a number that is given")
    }

    fn to_json(&self) -> Value {
        let mut object = json!({
            "shows": self.shows,
            "requirements": self.requirements,
            "read_as": self.read_as,
        });
        let fields = object.as_object_mut().unwrap();
        if !self.versions.is_empty() {
            fields.insert("versions".to_owned(), json!(self.versions));
        }
        if !self.given.is_empty() {
            fields.insert("given".to_owned(), json!(self.given));
        }
        match str::from_utf8(&self.bytes) {
            Ok(text) if self.read_as == "text-envelope" => {
                fields.insert("text".to_owned(), text.into());
            }
            _ => {
                fields.insert("hex".to_owned(), hex::encode(&self.bytes).into());
            }
        }
        match &self.outcome {
            Ok(says) => fields.insert("says".to_owned(), says.clone()),
            Err(reason) => fields.insert("refused".to_owned(), reason.clone().into()),
        };
        object
    }

    fn from_json(mut object: Value) -> Self {
        let fields = object.as_object_mut().expect("an object");
        let mut take = |name: &str| fields.remove(name);
        let text = |value: Option<Value>| match value {
            Some(Value::String(text)) => text,
            other => panic!("a text, not {other:?}"),
        };
        let list = |value: Option<Value>| -> Vec<String> {
            serde_json::from_value(value.unwrap_or_else(|| json!([]))).unwrap()
        };
        let vector = Self {
            shows: text(take("shows")),
            requirements: list(take("requirements")),
            versions: list(take("versions")),
            read_as: text(take("read_as")),
            given: match take("given") {
                None => Map::new(),
                Some(given) => given.as_object().unwrap().clone(),
            },
            bytes: match (take("hex"), take("text")) {
                (hex, None) => hex::decode(text(hex)).unwrap(),
                (None, content) => text(content).into_bytes(),
                (Some(_), Some(_)) => panic!("hex and text at once"),
            },
            outcome: match (take("says"), take("refused")) {
                (Some(says), None) => Ok(says),
                (None, reason) => Err(text(reason)),
                (Some(_), Some(_)) => panic!("a vector is valid or not"),
            },
        };
        assert!(fields.is_empty(), "fields that nobody reads: {fields:?}");
        vector
    }
}

/// `spec/vectors`.
pub(crate) fn folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    root.join("spec/vectors")
}

/// Every vector that is kept.
pub(crate) fn read() -> Vectors {
    let mut vectors = Vectors::new();
    for group in fs::read_dir(folder()).unwrap() {
        let group = group.unwrap().path();
        if !group.is_dir() {
            continue;
        }
        for file in fs::read_dir(&group).unwrap() {
            let file = file.unwrap().path();
            let group = group.file_name().unwrap().to_str().unwrap();
            let name = file.file_stem().unwrap().to_str().unwrap();
            assert_eq!(file.extension().unwrap(), "json", "{}", file.display());
            let text = fs::read_to_string(&file).unwrap();
            let object = serde_json::from_str(&text).unwrap();
            vectors.insert(format!("{group}/{name}"), Vector::from_json(object));
        }
    }
    vectors
}

/// Writes the vectors and their index. What is published is not changed: a file that is there with
/// another content is an error, unless it was removed first.
pub(crate) fn write(vectors: &Vectors) {
    let kept = read();
    for (name, vector) in vectors {
        if let Some(kept) = kept.get(name) {
            assert_eq!(kept, vector, "{name} is there already, and is another");
            continue;
        }
        let path = folder().join(format!("{name}.json"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = serde_json::to_string_pretty(&vector.to_json()).unwrap();
        fs::write(path, text + "\n").unwrap();
    }
    let readme = folder().join("README.md");
    let text = fs::read_to_string(&readme).unwrap();
    let (before, _) = text.split_once(INDEX).expect("where the index begins");
    fs::write(&readme, format!("{before}{INDEX}{}", index(vectors))).unwrap();
}

/// What stands before the index in `README.md`.
pub(crate) const INDEX: &str = "## The vectors\n";

/// The index: a row for each vector.
pub(crate) fn index(vectors: &Vectors) -> String {
    let mut text = "\n| vector | what it shows | refused | requirements |\n\
                    | --- | --- | --- | --- |\n"
        .to_owned();
    for (name, vector) in vectors {
        let refused = match &vector.outcome {
            Ok(_) => String::new(),
            Err(reason) => format!("`{reason}`"),
        };
        text.push_str(&format!(
            "| [{name}]({name}.json) | {} | {refused} | {} |\n",
            vector.shows,
            vector.requirements.join(", ")
        ));
    }
    text
}
