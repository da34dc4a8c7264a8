//! Writes the software bill of materials of the shipped programs: CycloneDX 1.6, in JSON.
//!
//! Usage: `bill-of-materials FILE`, in the folder of the sources. It lists what cargo says is linked
//! into `kes-agent` and `kes-cli`, with the checksums of Cargo.lock, and what C brings along. No
//! network is asked. With SOURCE_DATE_EPOCH it has that time, and the same sources make the same file.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::process::{Command, ExitCode};

use serde_json::{Map, Value, json};

/// The shipped programs.
const PROGRAMS: [&str; 2] = ["kes-agent", "kes-cli"];

fn main() -> ExitCode {
    let Some(file) = std::env::args_os().nth(1) else {
        eprintln!("Usage: bill-of-materials FILE");
        return ExitCode::from(2);
    };
    let written = bill().and_then(|bill| Ok(fs::write(file, format!("{bill:#}\n"))?));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bill-of-materials: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bill() -> Result<Value, Box<dyn Error>> {
    let linked = Tree::read("normal,no-proc-macro")?;
    let all = Tree::read("normal,build")?;
    let checksums = Checksums::read()?;
    let c = c_parts()?;
    let mut components = Vec::new();
    for krate in &all.crates {
        components.push(checksums.component(krate, linked.crates.contains(krate))?);
    }
    components.extend(c.iter().map(CPart::component));

    let mut dependencies = all.edges;
    let references = c.iter().map(CPart::reference);
    let (sodium, rest): (Vec<_>, Vec<_>) = references.partition(|c| c.contains("libsodium"));
    for (name, on) in &mut dependencies {
        if name.starts_with("pkg:cargo/libsodium-sys-stable@") {
            on.extend(sodium.iter().cloned());
        } else if PROGRAMS
            .iter()
            .any(|p| name.starts_with(&format!("pkg:cargo/{p}@")))
        {
            on.extend(rest.iter().cloned());
        }
    }
    let programs = all
        .crates
        .iter()
        .filter(|c| PROGRAMS.contains(&c.name.as_str()));
    let programs = programs.map(Crate::reference).collect();
    dependencies.insert("kes-agent".to_owned(), programs);
    let dependencies: Vec<_> = dependencies
        .into_iter()
        .map(|(name, on)| json!({ "ref": name, "dependsOn": on }))
        .collect();

    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": metadata()?,
        "components": components,
        "dependencies": dependencies,
    }))
}

fn metadata() -> Result<Value, Box<dyn Error>> {
    let mut metadata = json!({
        "tools": { "components": [{
            "type": "application",
            "name": "bill-of-materials",
            "version": env!("CARGO_PKG_VERSION"),
        }] },
        "component": {
            "type": "application",
            "bom-ref": "kes-agent",
            "name": "kes-agent",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The programs kes-agent and kes-cli",
            "licenses": licences(env!("CARGO_PKG_LICENSE")),
        },
    });
    let epoch = std::env::var("SOURCE_DATE_EPOCH").unwrap_or_default();
    if !epoch.is_empty() {
        let time = jiff::Timestamp::from_second(epoch.parse()?)?;
        metadata["timestamp"] = Value::from(time.to_string());
    }
    Ok(metadata)
}

fn licences(expression: &str) -> Value {
    // Cargo once allowed a slash for OR.
    json!([{ "expression": expression.replace('/', " OR ") }])
}

// --- What cargo knows --------------------------------------------------------------------------

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
    licence: String,
    repository: String,
}

impl Crate {
    fn reference(&self) -> String {
        // Of a package URL's version, the plus sign is written in percents.
        format!(
            "pkg:cargo/{}@{}",
            self.name,
            self.version.replace('+', "%2B")
        )
    }
}

/// Crates below the programs, and what each is made with.
struct Tree {
    crates: BTreeSet<Crate>,
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl Tree {
    /// As `cargo tree` has it for this machine, with these kinds of edges.
    fn read(kinds: &str) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["tree", "--locked", "--offline", "--quiet", "--edges", kinds]);
        command.args(["--prefix", "depth", "--format", "\t{p}\t{l}\t{r}"]);
        for program in PROGRAMS {
            command.args(["--package", program]);
        }
        let mut tree = Self {
            crates: BTreeSet::new(),
            edges: BTreeMap::new(),
        };
        // The way from the program to the line that is read.
        let mut way: Vec<Crate> = Vec::new();
        for line in said(&mut command)?.lines().filter(|line| !line.is_empty()) {
            let bad = || format!("cargo tree said: {line}");
            let fields: Vec<_> = line.split('\t').collect();
            let [depth, package, licence, repository] = fields[..] else {
                return Err(bad().into());
            };
            let mut package = package.split(' ');
            let (name, version) = package.next().zip(package.next()).ok_or_else(bad)?;
            let krate = Crate {
                name: name.to_owned(),
                version: version.trim_start_matches('v').to_owned(),
                licence: licence.to_owned(),
                // A mark for what stands elsewhere already.
                repository: repository.trim_end_matches("(*)").trim().to_owned(),
            };
            way.truncate(depth.parse()?);
            tree.edges.entry(krate.reference()).or_default();
            if let Some(user) = way.last() {
                let edges = tree.edges.entry(user.reference()).or_default();
                edges.insert(krate.reference());
            }
            tree.crates.insert(krate.clone());
            way.push(krate);
        }
        Ok(tree)
    }
}

/// The checksums in Cargo.lock, by name and version.
struct Checksums(BTreeMap<(String, String), Option<String>>);

impl Checksums {
    fn read() -> Result<Self, Box<dyn Error>> {
        let lock: toml::Table = toml::from_str(&fs::read_to_string("Cargo.lock")?)?;
        let packages = lock["package"]
            .as_array()
            .ok_or("Cargo.lock has no packages")?;
        let text = |package: &toml::Value, field| Some(package.get(field)?.as_str()?.to_owned());
        let checksums = packages.iter().filter_map(|package| {
            let key = (text(package, "name")?, text(package, "version")?);
            Some((key, text(package, "checksum")))
        });
        Ok(Self(checksums.collect()))
    }

    fn component(&self, krate: &Crate, is_linked: bool) -> Result<Value, Box<dyn Error>> {
        let key = (krate.name.clone(), krate.version.clone());
        let checksum = self
            .0
            .get(&key)
            .ok_or_else(|| format!("{} {} is not in Cargo.lock", krate.name, krate.version))?;
        let is_program = PROGRAMS.contains(&krate.name.as_str());
        let mut component = json!({
            "type": if is_program { "application" } else { "library" },
            "bom-ref": krate.reference(),
            "name": krate.name,
            "version": krate.version,
            // What only helps to build (macros, build scripts) is not in the programs.
            "scope": if is_linked { "required" } else { "excluded" },
            "licenses": licences(&krate.licence),
        });
        // The project's own crates are in no registry.
        if let Some(checksum) = checksum {
            component["purl"] = Value::from(krate.reference());
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        if !krate.repository.is_empty() {
            component["externalReferences"] = json!([{ "type": "vcs", "url": krate.repository }]);
        }
        Ok(component)
    }
}

// --- What C brings along -----------------------------------------------------------------------

struct CPart {
    name: &'static str,
    version: String,
    licence: &'static str,
    description: &'static str,
}

impl CPart {
    fn reference(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    fn component(&self) -> Value {
        let mut component = Map::new();
        component.insert("type".to_owned(), Value::from("library"));
        component.insert("bom-ref".to_owned(), Value::from(self.reference()));
        component.insert("name".to_owned(), Value::from(self.name));
        component.insert("version".to_owned(), Value::from(self.version.clone()));
        component.insert("description".to_owned(), Value::from(self.description));
        component.insert("scope".to_owned(), Value::from("required"));
        component.insert("licenses".to_owned(), licences(self.licence));
        Value::Object(component)
    }
}

/// The shipped programs are linked statically (`make build`), with what this machine has.
fn c_parts() -> Result<Vec<CPart>, Box<dyn Error>> {
    let sodium = libsodium_sys::SODIUM_VERSION_STRING;
    let sodium = std::str::from_utf8(sodium)?.trim_end_matches('\0');
    let rust = said(Command::new("rustc").arg("--version"))?;
    let c_library = said(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
    let compiler = said(Command::new("cc").arg("-dumpfullversion"))?;
    let second_word = |text: &str| text.split_whitespace().nth(1).map(str::to_owned);
    Ok(vec![
        CPart {
            name: "libsodium",
            version: sodium.to_owned(),
            licence: "ISC",
            description: "Its source is in the crate libsodium-sys-stable, whose checksum covers it",
        },
        CPart {
            name: "rust-std",
            version: second_word(&rust).ok_or("rustc has no version")?,
            licence: "MIT OR Apache-2.0",
            description: "The Rust standard library",
        },
        CPart {
            name: "glibc",
            version: second_word(&c_library).ok_or("getconf knows no GNU C library")?,
            licence: "LGPL-2.1-or-later",
            description: "The C library of the machine that built, linked statically",
        },
        CPart {
            name: "libgcc_eh",
            version: compiler.trim().to_owned(),
            licence: "GPL-3.0-or-later WITH GCC-exception-3.1",
            description: "The compiler's unwinder, of the machine that built",
        },
    ])
}

/// What a command that succeeds says.
fn said(command: &mut Command) -> Result<String, Box<dyn Error>> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {said}").into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
