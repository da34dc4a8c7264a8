//! `kes-cli cold ...`: the air-gapped machine's part.
//!
//! The cold sign key goes from its file straight into locked memory and back. The certificate is
//! written and flushed before the counter: an interruption repeats a number, which the chain
//! accepts, and never skips one, which it does not.

use kes_wire::cold::{ColdSignKey, PoolId};
use kes_wire::envelope;
use kes_wire::files::{self, Overwrite, Visibility};
use kes_wire::period::KesPeriod;

use crate::arguments::{ColdIssueOpCert, ColdKeyGen, ColdNewCounter};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Report;
use crate::words::fingerprint;

/// `kes-cli cold key-gen`
pub(crate) fn key_gen(args: &ColdKeyGen) -> Result<Report, Failure> {
    let overwrite = overwrite(args.force);
    let skey_path = &args.cold_signing_key_file;
    let vkey_path = &args.cold_verification_key_file;
    let counter_path = &args.operational_certificate_issue_counter_file;
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

/// `kes-cli cold issue-op-cert`
pub(crate) fn issue_op_cert(args: &ColdIssueOpCert) -> Result<Report, Failure> {
    let counter_path = &args.operational_certificate_issue_counter_file;
    files::check_target(&args.out_file, overwrite(args.force))?;
    let kes_vkey = envelope::read_file(&args.kes_verification_key_file, envelope::read_kes_vkey)?;
    let (counter, counter_vkey) = envelope::read_file(counter_path, envelope::read_opcert_counter)?;
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
    let next = counter.checked_add(1).ok_or_else(|| {
        Failure::content(
            &counter_path.display().to_string(),
            &"its number cannot be increased",
        )
    })?;
    let start = KesPeriod(args.kes_period);
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
    let print = fingerprint(&kes_vkey);
    Ok(Report::new(true)
        .line(format!(
            "Fingerprint: {print}  (compare it with the hot machine)"
        ))
        .line(format!(
            "Certificate: {} (number {counter})",
            args.out_file.display()
        ))
        .line(format!("KES period:  from {start} on"))
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

fn overwrite(force: bool) -> Overwrite {
    if force { Overwrite::Yes } else { Overwrite::No }
}
