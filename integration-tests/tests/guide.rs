//! `deploy/guide` says what is true: its commands are run, the options that it names exist, the
//! messages that it quotes are those of the sources, and its links lead somewhere.
//!
//! A block marked `sh run` is run, in the order of its page, against an agent of a pool of its own;
//! `exit=N` says how it ends. `/mnt/usb` and the installed paths stand for folders of the test. A page
//! that says `<!-- begins with a key of number N -->` begins with one active, and a node connected.
//! Other `sh` blocks need a whole host: of them the options are looked at.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use integration_tests::pool::{Node, Pool, TestNetwork, program};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Name and text of every page.
fn pages() -> Vec<(String, String)> {
    let folder = project().join("deploy/guide");
    let mut pages: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    pages.sort();
    assert!(pages.len() > 10, "the guide's pages");
    pages
}

/// A fenced block: what stands behind its fence, and its lines.
struct Block {
    info: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in page.lines() {
        // Blocks of a list are indented.
        let line = line.strip_prefix("   ").unwrap_or(line);
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Block {
                    info: info.to_owned(),
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text.push_str(&format!("{line}\n")),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// A pool whose current period is the guide's example.
fn pool() -> Pool {
    Pool::new(TestNetwork {
        slots_per_period: 129_600,
        slot_ms: 1000,
        past_periods: 1572,
        ..TestNetwork::default()
    })
}

fn run_page(name: &str, page: &str) -> usize {
    let runnable: Vec<_> = blocks(page)
        .into_iter()
        .filter(|block| block.info.starts_with("sh run"))
        .collect();
    if runnable.is_empty() {
        return 0;
    }
    let pool = pool();
    fs::create_dir(pool.path("usb")).unwrap();
    let _agent = pool.agent();
    let mut _node = None;
    if let Some((_, rest)) = page.split_once("<!-- begins with a key of number ") {
        let number = rest.split(' ').next().unwrap().parse().unwrap();
        pool.set_counter("cold", number);
        let _ = pool.rotate();
        fs::remove_file(pool.path("kes.vkey")).unwrap();
        let node = Node::start(&pool);
        let _ = node.await_event("signed", 0);
        _node = Some(node);
    }
    let programs = program("kes-cli").parent().unwrap().to_owned();
    let path = format!(
        "{}:{}",
        programs.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let count = runnable.len();
    for block in runnable {
        let text = block.text.replace("/mnt/usb", &pool.text("usb")).replace(
            "/usr/share/kes-agent/rotate.sh",
            project().join("deploy/scripts/rotate.sh").to_str().unwrap(),
        );
        let wanted = block
            .info
            .split_once("exit=")
            .map_or(0, |(_, code)| code.parse().unwrap());
        let output = pool_command(&pool, &path).args(["-euc", &text]).output();
        let output = output.unwrap();
        assert_eq!(
            output.status.code(),
            Some(wanted),
            "{name}:\n{text}{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    count
}

fn pool_command(pool: &Pool, path: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .current_dir(pool.path("."))
        .env("PATH", path)
        .env("KES_AGENT_CONTROL_PATH", pool.path("control.socket"))
        .env("KES_AGENT_SERVICE_PATH", pool.path("service.socket"))
        .env("KES_AGENT_GENESIS_FILE", pool.path("genesis.json"))
        .env("KES_AGENT_COLD_VK", pool.path("cold.vkey"))
        .stdin(Stdio::null());
    command
}

#[test]
fn its_commands_run() {
    let run: usize = pages()
        .iter()
        .map(|(name, page)| run_page(name, page))
        .sum();
    assert!(run >= 20, "only {run} blocks were run");
}

/// The long options that a program's command has.
fn options(program_name: &str, command: &[String]) -> BTreeSet<String> {
    let output = Command::new(program(program_name))
        .args(command)
        .arg("--help")
        .output()
        .unwrap();
    assert!(output.status.success(), "{program_name} {command:?}");
    words_with_dashes(&String::from_utf8(output.stdout).unwrap())
}

fn words_with_dashes(text: &str) -> BTreeSet<String> {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
    let words = text.split(ends).filter(|word| word.len() > 3);
    words
        .filter(|word| word.starts_with("--"))
        .map(str::to_owned)
        .collect()
}

/// Every piece of a page that could be a command line: blocks' lines, joined where they go on, and
/// what stands in backticks.
fn command_lines(page: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for block in blocks(page) {
        let joined = block.text.replace("\\\n", " ");
        lines.extend(joined.lines().map(str::to_owned));
    }
    let inline = page.split('`').skip(1).step_by(2);
    lines.extend(
        inline
            .filter(|piece| !piece.contains('\n'))
            .map(str::to_owned),
    );
    lines
}

/// After these words, `kes-agent` is a unit, a user or a package.
const NOT_COMMANDS: [&str; 7] = [
    "--now", "-u", "enable", "reload", "restart", "security", "show",
];

#[test]
fn the_commands_and_options_that_it_names_exist() {
    let commands = BTreeMap::from([
        (
            "kes-cli",
            "keygen export-verkey import-opcert activate status check drop-pending drop-active \
             confirm-clock probe cold key-gen issue-op-cert new-counter",
        ),
        ("kes-agent", "run check-host"),
    ]);
    let mut looked_at = 0;
    for (name, page) in pages() {
        for line in command_lines(&page) {
            for part in line.split(['|', ';', '&', '(', ')', '#']) {
                let words: Vec<_> = part.split_whitespace().collect();
                let is_command = |at: usize| {
                    let before = at.checked_sub(1).map_or("", |before| words[before]);
                    commands.contains_key(words[at]) && !NOT_COMMANDS.contains(&before)
                };
                let Some(at) = (0..words.len()).find(|at| is_command(*at)) else {
                    continue;
                };
                let known = commands[words[at]];
                let command: Vec<String> = words[at + 1..]
                    .iter()
                    .take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
                    .map(|word| (*word).to_owned())
                    .collect();
                for word in &command {
                    let is_known = known.split_whitespace().any(|known| known == word);
                    assert!(is_known, "{name}: {} {word}: {line}", words[at]);
                }
                let there = options(words[at], &command);
                for option in words_with_dashes(&words[at + 1..].join(" ")) {
                    let exists = there.contains(&option) || option == "--help";
                    assert!(exists, "{name}: {} {command:?} {option}", words[at]);
                    looked_at += 1;
                }
            }
        }
    }
    assert!(looked_at > 40, "only {looked_at} options were looked at");
}

/// Everything below these folders that is said to an operator, on one line where the source breaks
/// it.
fn sources() -> String {
    let mut text = String::new();
    let mut folders: Vec<PathBuf> = [
        "kes-agent/src",
        "kes-cli/src",
        "kes-wire/src",
        "deploy/scripts",
    ]
    .iter()
    .map(|folder| project().join(folder))
    .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs" || e == "sh") {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut joined = String::new();
    let mut parts = text.split("\\\n");
    joined.push_str(parts.next().unwrap());
    for part in parts {
        joined.push_str(part.trim_start());
    }
    joined.replace("\\\"", "\"")
}

#[test]
fn the_messages_that_it_quotes_are_said() {
    let sources = sources();
    let (_, page) = pages()
        .into_iter()
        .find(|(name, _)| name == "troubleshooting.md")
        .unwrap();
    let quoted: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(message, _)| message)
        .collect();
    assert!(quoted.len() > 50);
    for message in quoted {
        for piece in message.split('…') {
            assert!(
                sources.contains(piece),
                "nothing says: {message} (looked for: {piece})"
            );
        }
    }
}

#[test]
fn its_links_lead_somewhere() {
    let pages = pages();
    let anchors = |page: &str| -> BTreeSet<String> {
        let titles = page.lines().filter(|line| line.starts_with('#'));
        titles
            .map(|line| {
                let title = line.trim_start_matches('#').trim().to_lowercase();
                let kept = title
                    .chars()
                    .filter(|c| c.is_alphanumeric() || " -".contains(*c));
                kept.collect::<String>().replace(' ', "-")
            })
            .collect()
    };
    for (name, page) in &pages {
        for link in page.split("](").skip(1) {
            let target = link.split(')').next().unwrap();
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { name } else { file };
            let there = pages.iter().find(|(page, _)| page == file);
            let (_, text) = there.unwrap_or_else(|| panic!("{name}: no page {target}"));
            let found = anchor.is_empty() || anchors(text).contains(anchor);
            assert!(found, "{name}: no title {target}");
        }
    }
    let (_, index) = pages.iter().find(|(name, _)| name == "README.md").unwrap();
    for (name, _) in pages.iter().filter(|(name, _)| name != "README.md") {
        assert!(index.contains(name.as_str()), "the index lacks {name}");
    }
}
