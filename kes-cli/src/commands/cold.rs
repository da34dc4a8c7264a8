//! `kes-cli cold ...`: the air-gapped machine's part.
//!
//! The cold sign key goes from its file straight into locked memory and back. The certificate is
//! written and flushed before the counter: an interruption repeats a number, which the chain
//! accepts, and never skips one, which it does not.

use std::io::{self, BufRead, Read};
use std::path::Path;

use kes_wire::cold::{ColdSignKey, PoolId};
use kes_wire::envelope;
use kes_wire::files::{self, Overwrite, Visibility};
use kes_wire::period::KesPeriod;
use kes_wire::protocol::control::rotation::Note;
use kes_wire::unix_time::UnixTime;

use super::network;
use crate::arguments::{ColdIssueOpCert, ColdKeyGen, ColdNewCounter};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{self, Report};
use crate::plausibility::{doubts, made_at};
use crate::words::fingerprint;

/// `kes-cli cold key-gen`
pub(crate) fn key_gen(args: &ColdKeyGen) -> Result<Report, Failure> {
    let overwrite = overwrite(args.force);
    let skey_path = &args.cold_signing_key_file;
    let vkey_path = &args.cold_verification_key_file;
    let counter_path = &args.operational_certificate_issue_counter_file;
    counter_has_name(counter_path)?;
    for path in [skey_path, vkey_path, counter_path] {
        files::check_target(path, overwrite)?;
    }
    let key = ColdSignKey::generate()?;
    let vkey = key.verification_key();
    let secret = envelope::cold_skey(&key)?;
    files::write(skey_path, secret.expose(), overwrite, Visibility::Secret)?;
    let text = envelope::cold_vkey(&vkey);
    files::write(vkey_path, text.as_bytes(), overwrite, Visibility::Public)?;
    let text = envelope::opcert_counter(0, &vkey);
    files::write(counter_path, text.as_bytes(), overwrite, Visibility::Public)?;
    let pool_id = PoolId::of(&vkey).to_string();
    Ok(Report::new(true)
        .line(format!(
            "Cold sign key:         {} (keep it offline)",
            skey_path.display()
        ))
        .line(format!("Cold verification key: {}", vkey_path.display()))
        .line(format!(
            "Certificate counter:   {} (next number 0)",
            counter_path.display()
        ))
        .line(format!("Pool id:               {pool_id}"))
        .field("cold_vkey", vkey)
        .field("pool_id", pool_id))
}

/// `kes-cli cold issue-op-cert`. What is to be signed is shown before it is, unless `quiet`: then
/// standard output is for something else, and the report has it.
pub(crate) fn issue_op_cert(args: &ColdIssueOpCert, quiet: bool) -> Result<Report, Failure> {
    let counter_path = &args.operational_certificate_issue_counter_file;
    counter_has_name(counter_path)?;
    files::check_target(&args.out_file, overwrite(args.force))?;
    let kes_vkey = envelope::read_file(&args.kes_verification_key_file, envelope::read_kes_vkey)?;
    let (counter, counter_vkey) = envelope::read_file(counter_path, envelope::read_opcert_counter)?;
    let next = counter.checked_add(1).ok_or_else(|| {
        Failure::content(
            &counter_path.display().to_string(),
            &"its number cannot be increased",
        )
    })?;
    let start = KesPeriod(args.kes_period);
    let network = network(&args.network)?;
    let doubts = doubts(start, network.as_ref(), UnixTime::now(), made_at());
    let print = fingerprint(&kes_vkey);
    let to_sign = [
        format!("Fingerprint: {print}  (compare it with the hot machine)"),
        format!("KES period:  from {start} on  (compare it, too)"),
        format!("Number:      {counter}"),
        format!("Pool:        {}", PoolId::of(&counter_vkey)),
    ];
    if !quiet || args.ask {
        show(&to_sign, &doubts, quiet);
    }
    if args.ask {
        await_yes(quiet)?;
    }
    let key = envelope::read_cold_skey_file(&args.cold_signing_key_file)?;
    let vkey = key.verification_key();
    if counter_vkey != vkey {
        return Err(Failure::new(
            Exit::CertificateInvalid,
            "counter-of-other-cold-key",
            format!(
                "the counter file {} belongs to another cold key ({counter_vkey}) than {} ({vkey})",
                counter_path.display(),
                args.cold_signing_key_file.display()
            ),
            "use the counter file of this pool, or write a new one with `kes-cli cold new-counter`",
        ));
    }
    let opcert = key.issue(&kes_vkey, counter, start)?;
    drop(key);
    let text = envelope::opcert(&opcert, &vkey);
    files::write(
        &args.out_file,
        text.as_bytes(),
        overwrite(args.force),
        Visibility::Public,
    )?;
    let text = envelope::opcert_counter(next, &vkey);
    files::write(
        counter_path,
        text.as_bytes(),
        Overwrite::Yes,
        Visibility::Public,
    )?;
    let mut report = Report::new(true);
    if quiet {
        // Not said before: it stands here, and the doubts with it.
        report.lines.extend(to_sign);
        report = report.notes(doubts);
    }
    Ok(report
        .line(format!("Certificate: {}", args.out_file.display()))
        .line(format!(
            "Counter:     {} (next number {next})",
            counter_path.display()
        ))
        .field("kes_verification_key", kes_vkey)
        .field("fingerprint", print)
        .field("counter", counter)
        .field("next_counter", next)
        .field("start_period", start)
        .field("pool_id", PoolId::of(&vkey).to_string())
        .field("out_file", args.out_file.display().to_string()))
}

/// Says what is about to be signed.
fn show(to_sign: &[String], doubts: &[Note], stdout_taken: bool) {
    let mut text = to_sign.join("\n") + "\n";
    for doubt in doubts {
        text.push_str(&format!("ATTENTION:   {}\n", doubt.sentence));
    }
    output::say(&text, stdout_taken);
}

/// Waits for a yes on standard input.
fn await_yes(stdout_taken: bool) -> Result<(), Failure> {
    output::say("Sign? Type yes: ", stdout_taken);
    let mut answer = String::new();
    // Where nothing can be read, nobody has said yes.
    let _ = io::stdin().lock().take(64).read_line(&mut answer);
    if answer.trim() == "yes" {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failure,
        "not-confirmed",
        "nothing was signed: the answer was not yes",
        "run the command again when fingerprint and period are those of the hot machine",
    ))
}

/// `kes-cli cold new-counter`
pub(crate) fn new_counter(args: &ColdNewCounter) -> Result<Report, Failure> {
    let path = &args.operational_certificate_issue_counter_file;
    let vkey = envelope::read_file(&args.cold_verification_key_file, envelope::read_cold_vkey)?;
    let text = envelope::opcert_counter(args.counter_value, &vkey);
    let changed = files::write(
        path,
        text.as_bytes(),
        overwrite(args.force),
        Visibility::Public,
    )?;
    Ok(Report::new(changed)
        .line(format!(
            "Counter: {} (next number {})",
            path.display(),
            args.counter_value
        ))
        .field("next_counter", args.counter_value)
        .field("pool_id", PoolId::of(&vkey).to_string()))
}

/// Checks that the counter does not go to standard output: it is read again from where it was
/// written.
fn counter_has_name(path: &Path) -> Result<(), Failure> {
    if path.as_os_str() != "-" {
        return Ok(());
    }
    Err(Failure::new(
        Exit::File,
        "file",
        "--operational-certificate-issue-counter-file: this file is not written to standard output",
        "name a file",
    ))
}

fn overwrite(force: bool) -> Overwrite {
    if force { Overwrite::Yes } else { Overwrite::No }
}
