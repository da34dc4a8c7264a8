//! `spec/commands.schema.json`, and how an object is held against it.

use std::fs;
use std::path::Path;

use jsonschema::Validator;
use serde_json::{Value, json};

/// The schema, whose definitions are named as the commands.
pub(crate) struct Schema(Value);

impl Schema {
    pub(crate) fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let text = fs::read(root.join("spec/commands.schema.json")).unwrap();
        Self(serde_json::from_slice(&text).unwrap())
    }

    /// The whole schema.
    pub(crate) fn whole(&self) -> &Value {
        &self.0
    }

    /// The definitions that a command's output may be: those that the schema itself refers to.
    pub(crate) fn outputs(&self) -> Vec<String> {
        let names = self.0["anyOf"].as_array().unwrap().iter();
        names
            .map(|one| one["$ref"].as_str().unwrap())
            .map(|reference| reference.strip_prefix("#/$defs/").unwrap().to_owned())
            .collect()
    }

    /// One definition, to hold objects against.
    pub(crate) fn definition(&self, name: &str) -> Validator {
        assert!(self.0["$defs"][name].is_object(), "no definition {name}");
        let one = json!({
            "$schema": self.0["$schema"],
            "$ref": format!("#/$defs/{name}"),
            "$defs": self.0["$defs"],
        });
        jsonschema::validator_for(&one).unwrap()
    }

    /// Holds an object against a definition, and against the whole schema; then breaks it in every
    /// way that a change of names would, and checks that each is found.
    pub(crate) fn hold(&self, name: &str, object: &Value) {
        let definition = self.definition(name);
        if let Err(error) = definition.validate(object) {
            panic!(
                "not as spec/commands.schema.json has {name}: {error} at {}\n{object:#}",
                error.instance_path()
            );
        }
        let whole = jsonschema::validator_for(&self.0).unwrap();
        assert!(whole.is_valid(object), "{object:#}");
        for pointer in objects(object, "") {
            let names: Vec<String> = fields(object, &pointer).keys().cloned().collect();
            let mut further = object.clone();
            put(&mut further, &pointer, "no-such-field", json!("x"));
            assert!(
                !definition.is_valid(&further),
                "{name}: an unknown field at {pointer:?} is not found"
            );
            // The names of numbers are free.
            for field in names.iter().filter(|_| !pointer.ends_with("/numbers")) {
                let mut renamed = object.clone();
                let at = renamed.pointer_mut(&pointer).unwrap();
                let value = at.as_object_mut().unwrap().remove(field).unwrap();
                put(&mut renamed, &pointer, &format!("{field}_"), value);
                assert!(
                    !definition.is_valid(&renamed),
                    "{name}: {field} at {pointer:?} may be renamed unseen"
                );
            }
        }
    }
}

fn fields<'a>(object: &'a Value, pointer: &str) -> &'a serde_json::Map<String, Value> {
    object.pointer(pointer).unwrap().as_object().unwrap()
}

fn put(object: &mut Value, pointer: &str, name: &str, value: Value) {
    let at = object.pointer_mut(pointer).unwrap();
    at.as_object_mut().unwrap().insert(name.to_owned(), value);
}

/// The pointers (RFC 6901) to every object in a value.
fn objects(value: &Value, pointer: &str) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let below = fields
                .iter()
                .flat_map(|(name, value)| objects(value, &format!("{pointer}/{name}")));
            std::iter::once(pointer.to_owned()).chain(below).collect()
        }
        Value::Array(elements) => elements
            .iter()
            .enumerate()
            .flat_map(|(at, value)| objects(value, &format!("{pointer}/{at}")))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}
