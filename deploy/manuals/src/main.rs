//! Writes manual pages and shell completions into a folder, laid out as below `/usr/share`.
//!
//! Usage: `manuals FOLDER`. They come from the definitions by which the programs read their
//! arguments, so they cannot say anything else.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use kes_agent::config::arguments::Arguments;

/// Where the completions of a shell belong, below `/usr/share`.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions"),
    (Shell::Zsh, "zsh/vendor-completions"),
    (Shell::Fish, "fish/vendor_completions.d"),
];

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("Usage: manuals FOLDER");
        return ExitCode::from(2);
    };
    match write_all(&PathBuf::from(folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("manuals: {error}");
            ExitCode::FAILURE
        }
    }
}

fn programs() -> [Command; 3] {
    let [cli, control] = kes_cli::command_lines();
    [Arguments::command(), cli, control]
}

fn write_all(folder: &Path) -> io::Result<()> {
    for command in programs() {
        write_pages(command.clone(), &folder.join("man/man1"))?;
        for (shell, below) in COMPLETIONS {
            let below = folder.join(below);
            fs::create_dir_all(&below)?;
            let name = command.get_name().to_owned();
            let made = clap_complete::generate_to(shell, &mut command.clone(), &name, &below)?;
            if shell == Shell::Bash {
                // It is looked for by the program's name.
                fs::rename(made, below.join(name))?;
            }
        }
    }
    Ok(())
}

/// A page for the program and one for each of its commands, such as `kes-cli-status.1`.
fn write_pages(command: Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command, folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pages of a command and of all below it, with the options that each must explain.
    fn pages(command: &Command, prefix: &str, out: &mut Vec<(String, Vec<String>)>) {
        let name = format!("{prefix}{}", command.get_name());
        let options = command
            .get_arguments()
            .filter(|argument| !argument.is_hide_set());
        let options = options.filter_map(|argument| argument.get_long().map(str::to_owned));
        out.push((format!("{name}.1"), options.collect()));
        for below in command.get_subcommands().filter(|c| c.get_name() != "help") {
            pages(below, &format!("{name}-"), out);
        }
    }

    #[test]
    fn every_command_and_option_has_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        write_all(folder.path()).expect("written");
        let mut expected = Vec::new();
        for mut command in programs() {
            command.build();
            pages(&command, "", &mut expected);
            for (_, below) in COMPLETIONS {
                let below = folder.path().join(below);
                let made = fs::read_dir(below).expect("a folder").any(|entry| {
                    let name = entry.expect("an entry").file_name();
                    name.to_string_lossy().contains(command.get_name())
                });
                assert!(made, "{}", command.get_name());
            }
        }
        assert!(expected.len() > 20);
        for (page, options) in expected {
            let text = fs::read_to_string(folder.path().join("man/man1").join(&page))
                .unwrap_or_else(|error| panic!("{page}: {error}"));
            let text = text.replace("\\-", "-");
            for option in options {
                assert!(text.contains(&format!("--{option}")), "{page}: --{option}");
            }
        }
    }
}
