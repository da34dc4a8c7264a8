//! `spec/control-rotation.cddl` itself: the part of CDDL (RFC 8610) that it uses, read and held
//! against the vectors' items.

use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;
use std::vec::IntoIter;

use ciborium::Value as Item;

/// Names that every CDDL file has already, and may not define anew (RFC 8610, appendix D).
const PRELUDE: [&str; 20] = [
    "any",
    "uint",
    "nint",
    "int",
    "bstr",
    "bytes",
    "tstr",
    "text",
    "tdate",
    "time",
    "number",
    "biguint",
    "bignint",
    "bigint",
    "float",
    "bool",
    "false",
    "true",
    "null",
    "undefined",
];

/// Rules by name.
pub(crate) struct Cddl(BTreeMap<String, Type>);

enum Type {
    Number(u64),
    Name(String, Option<usize>),
    Array(Vec<Entry>),
    Map(Vec<Entry>),
    OneOf(Vec<Type>),
}

/// An entry of an array or a map.
struct Entry {
    occurs: Occurs,
    key: Option<Key>,
    of: Type,
}

#[derive(PartialEq)]
enum Occurs {
    Once,
    AtMostOnce,
    AnyTimes,
}

enum Key {
    Number(u64),
    Text,
}

/// What an item has that the file names: rules, alternatives and keys, each with the way to it.
pub(crate) type Seen = BTreeSet<String>;

struct Parser(Peekable<IntoIter<String>>);

impl Parser {
    fn new(text: &str) -> Self {
        let lines = text.lines().map(|line| line.split(';').next().unwrap());
        let mut spaced: String = lines.collect::<Vec<_>>().join("\n");
        for mark in ["=>", "[", "]", "{", "}", ",", "/", "?", "*"] {
            spaced = spaced.replace(mark, &format!(" {mark} "));
        }
        let tokens: Vec<String> = spaced.split_whitespace().map(str::to_owned).collect();
        Self(tokens.into_iter().peekable())
    }

    fn next(&mut self) -> String {
        self.0.next().expect("more of the file")
    }

    fn takes(&mut self, token: &str) -> bool {
        self.0.next_if(|next| next == token).is_some()
    }

    fn one(&mut self) -> Type {
        let token = self.next();
        match token.as_str() {
            "[" => Type::Array(self.entries("]")),
            "{" => Type::Map(self.entries("}")),
            name => match name.parse() {
                Ok(number) => Type::Number(number),
                Err(_) => {
                    let is_sized = self.takes(".size");
                    let size = is_sized.then(|| self.next().parse().unwrap());
                    Type::Name(token, size)
                }
            },
        }
    }

    fn of(&mut self) -> Type {
        let mut types = vec![self.one()];
        while self.takes("/") {
            types.push(self.one());
        }
        match types.len() {
            1 => types.remove(0),
            _ => Type::OneOf(types),
        }
    }

    fn entries(&mut self, end: &str) -> Vec<Entry> {
        let mut entries = Vec::new();
        while !self.takes(end) {
            let occurs = if self.takes("?") {
                Occurs::AtMostOnce
            } else if self.takes("*") {
                Occurs::AnyTimes
            } else {
                Occurs::Once
            };
            let mut of = self.of();
            let mut key = None;
            if self.takes("=>") {
                key = Some(match of {
                    Type::Number(number) => Key::Number(number),
                    Type::Name(name, None) if name == "tstr" => Key::Text,
                    _ => panic!("a key that this reader does not know"),
                });
                of = self.of();
            }
            entries.push(Entry { occurs, key, of });
            assert!(self.takes(",") || self.0.peek().is_some_and(|next| next == end));
        }
        entries
    }
}

impl Cddl {
    pub(crate) fn read(text: &str) -> Self {
        let mut parser = Parser::new(text);
        let mut rules = BTreeMap::new();
        while parser.0.peek().is_some() {
            let name = parser.next();
            assert!(parser.takes("="), "a rule {name}");
            assert!(
                !PRELUDE.contains(&name.as_str()),
                "{name} is defined by RFC 8610"
            );
            let of = parser.of();
            assert!(rules.insert(name.clone(), of).is_none(), "{name} twice");
        }
        Self(rules)
    }

    /// Whether an item is what a rule says. Keys that are not listed are skipped, unless `strict`.
    pub(crate) fn is(&self, rule: &str, item: &Item, strict: bool, seen: &mut Seen) -> bool {
        let of = &self.0[rule];
        self.fits(of, item, rule, strict, seen)
    }

    fn fits(&self, of: &Type, item: &Item, at: &str, strict: bool, seen: &mut Seen) -> bool {
        let number = |item: &Item| u64::try_from(item.as_integer()?).ok();
        match of {
            Type::Number(expected) => number(item) == Some(*expected),
            Type::Name(name, size) => match (name.as_str(), size) {
                ("bool", None) => item.is_bool(),
                ("uint", None) => number(item).is_some(),
                ("uint", Some(4)) => number(item).is_some_and(|n| u32::try_from(n).is_ok()),
                ("tstr", None) => item.is_text(),
                ("bytes", Some(size)) => item.as_bytes().is_some_and(|b| b.len() == *size),
                (rule, None) => self.is(rule, item, strict, seen),
                other => panic!("{other:?} is unknown"),
            },
            Type::OneOf(types) => types.iter().enumerate().any(|(which, one)| {
                let mut here = Seen::new();
                let fits = self.fits(one, item, &format!("{at}/{which}"), strict, &mut here);
                if fits {
                    seen.append(&mut here);
                    seen.insert(format!("{at}/{which}"));
                }
                fits
            }),
            Type::Array(entries) => item.as_array().is_some_and(|elements| {
                if let [Entry { occurs, of, .. }] = &entries[..]
                    && *occurs == Occurs::AnyTimes
                {
                    return elements.iter().all(|e| self.fits(of, e, at, strict, seen));
                }
                let mut pairs = entries.iter().zip(elements);
                elements.len() == entries.len()
                    && pairs.all(|(entry, e)| self.fits(&entry.of, e, at, strict, seen))
            }),
            Type::Map(entries) => item
                .as_map()
                .is_some_and(|map| self.has_fields(entries, map, at, strict, seen)),
        }
    }

    fn has_fields(
        &self,
        entries: &[Entry],
        map: &[(Item, Item)],
        at: &str,
        strict: bool,
        seen: &mut Seen,
    ) -> bool {
        let names: Vec<&Item> = map.iter().map(|(name, _)| name).collect();
        let is_twice = |(at, name): (usize, &&Item)| names[..at].contains(name);
        let has_texts = entries
            .iter()
            .any(|entry| matches!(entry.key, Some(Key::Text)));
        // Each once, and no others than integers in a structure.
        if names.iter().enumerate().any(is_twice)
            || !has_texts && !names.iter().all(|name| name.is_integer())
        {
            return false;
        }
        let mut left = map.len();
        let all = entries.iter().all(|entry| match entry.key {
            Some(Key::Number(key)) => {
                let found = map
                    .iter()
                    .find(|(name, _)| *name == Item::Integer(key.into()));
                let Some((_, value)) = found else {
                    return entry.occurs == Occurs::AtMostOnce;
                };
                left -= 1;
                let at = format!("{at}:{key}");
                let fits = self.fits(&entry.of, value, &at, strict, seen);
                seen.insert(at);
                fits
            }
            Some(Key::Text) => map.iter().all(|(name, value)| {
                left -= 1;
                name.is_text() && self.fits(&entry.of, value, at, strict, seen)
            }),
            None => panic!("an entry of a map without a key"),
        });
        all && (left == 0 || !strict)
    }

    /// Everything that an item could have by this rule, in the words of [`Seen`].
    pub(crate) fn everything(&self, rule: &str) -> Seen {
        let mut all = Seen::new();
        self.list(&self.0[rule], rule, &mut all);
        all
    }

    fn list(&self, of: &Type, at: &str, all: &mut Seen) {
        match of {
            Type::Number(_) => {}
            Type::Name(name, _) => {
                if let Some(of) = self.0.get(name) {
                    self.list(of, name, all);
                } else {
                    assert!(PRELUDE.contains(&name.as_str()), "{name} is not defined");
                }
            }
            Type::OneOf(types) => {
                for (which, one) in types.iter().enumerate() {
                    let at = format!("{at}/{which}");
                    self.list(one, &at, all);
                    all.insert(at);
                }
            }
            Type::Array(entries) => entries.iter().for_each(|e| self.list(&e.of, at, all)),
            Type::Map(entries) => {
                for entry in entries {
                    let at = match entry.key {
                        Some(Key::Number(key)) => format!("{at}:{key}"),
                        Some(Key::Text) | None => continue,
                    };
                    self.list(&entry.of, &at, all);
                    all.insert(at);
                }
            }
        }
    }
}
