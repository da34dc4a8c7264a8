//! What a control client says and understands in the deployed control versions.

use super::answers::{Installed, VKEY, info};
use super::{Ended, Scene, VERSIONS};
use crate::conformance::wire::{PATIENCE, Wire, big_endian};
use crate::conformance::{Check, Finding, Found, does_not_apply, hold};

pub(super) fn checks() -> Vec<Check<Scene>> {
    vec![
        Check {
            id: "DEP-2",
            what: "a Maybe of 02, a text of 4097 bytes and a list of 257 are errors",
            run: fields,
        },
        Check {
            id: "DEP-3",
            what: "an install with the result 0 succeeds, with another one it fails",
            run: results,
        },
        Check {
            id: "DEP-7",
            what: "the requests have the bytes of the table, in every version spoken",
            run: requests,
        },
        Check {
            id: "DEP-8",
            what: "the installed key is not dropped in 1.0 and 0.5: the command fails",
            run: no_drop,
        },
        Check {
            id: "DEP-11",
            what: "an info is read, in every version spoken",
            run: infos,
        },
        Check {
            id: "DEP-12",
            what: "an info that tells of a drop is read, and a peer's unknown state an error",
            run: odd_infos,
        },
    ]
}

/// A request: its number, and the bytes after it.
type Request = (u64, Vec<u8>);

fn read_request(wire: &Wire) -> Found<Option<Request>> {
    let Some(first) = wire.next_byte()? else {
        return Ok(None);
    };
    let number = big_endian(&[first, wire.read(1)?[0]]);
    let rest = if number == 3 {
        wire.read(112)?
    } else {
        Vec::new()
    };
    Ok(Some((number, rest)))
}

/// How an agent answers.
struct Agent<'a> {
    result: u16,
    info: &'a [u8],
}

impl Agent<'_> {
    /// Answers each request until the client closes, and gives them.
    fn serve(&self, wire: &Wire) -> Found<Vec<Request>> {
        let mut requests = Vec::new();
        while let Some(request) = read_request(wire)? {
            let answer = match request.0 {
                0 => [&[1][..], &VKEY].concat(),
                // Nothing is staged, so that a client goes on to generate.
                1 | 2 => vec![0],
                4 => self.info.to_vec(),
                _ => self.result.to_be_bytes().to_vec(),
            };
            requests.push(request);
            // A client may have seen enough before it has all.
            wire.offer_bytes(&answer);
        }
        Ok(requests)
    }
}

fn run(
    scene: &Scene,
    command: &str,
    version: &str,
    agent: &Agent<'_>,
) -> Found<(Ended, Vec<Request>)> {
    let mut requests = Vec::new();
    let ended = scene.settled(command, version, |wire| {
        requests = agent.serve(wire)?;
        Ok(())
    })?;
    Ok((ended, requests))
}

/// Tries something in each deployed version that the client speaks.
fn in_each(scene: &Scene, versions: &[&str], each: impl Fn(&Scene, &str) -> Found) -> Found {
    let mut spoken = 0;
    for version in versions {
        match each(scene, version) {
            Ok(()) => spoken += 1,
            // Another reason than the version would be the same in each.
            Err(Finding::DoesNotApply(reason)) if !reason.contains("does not speak") => {
                return does_not_apply(reason);
            }
            Err(Finding::DoesNotApply(_)) => {}
            broken => return broken,
        }
    }
    if spoken == 0 {
        return does_not_apply(format!("the client does not speak {}", versions.join(", ")));
    }
    Ok(())
}

fn status_with(scene: &Scene, version: &str, info: &[u8]) -> Found<Ended> {
    let agent = Agent { result: 0, info };
    let (ended, requests) = run(scene, scene.status(), version, &agent)?;
    let asked = requests.iter().any(|request| request.0 == 4);
    hold(asked, format!("{version}: the command asks for no info"))?;
    Ok(ended)
}

fn infos(scene: &Scene) -> Found {
    in_each(scene, &VERSIONS[1..], |scene, version| {
        for installed in [Installed::Nothing, Installed::Key] {
            for peer in 0..=2 {
                let info = info(version, &scene.certificate, installed, peer);
                let ended = status_with(scene, version, &info)?;
                ended.succeeds(&format!("an info in {version}"))?;
            }
        }
        Ok(())
    })
}

fn odd_infos(scene: &Scene) -> Found {
    in_each(scene, &VERSIONS[1..3], |scene, version| {
        let dropped = info(version, &scene.certificate, Installed::Drop, 0);
        let ended = status_with(scene, version, &dropped)?;
        ended.succeeds(&format!("an info that tells of a drop, in {version}"))
    })?;
    in_each(scene, &VERSIONS[1..], |scene, version| {
        let odd = info(version, &scene.certificate, Installed::Key, 3);
        let ended = status_with(scene, version, &odd)?;
        ended.fails(&format!("a peer in state 3, in {version}"))
    })
}

/// The command must fail on what was said of an info so far, without waiting for the rest.
fn is_refused(scene: &Scene, version: &str, what: &str, beginning: &[u8]) -> Found {
    let ended = scene.settled(scene.status(), version, |wire| {
        read_request(wire)?;
        wire.send(beginning)?;
        wire.until_closed(PATIENCE / 2).map(drop)
    })?;
    ended.fails(&format!("{what}, in {version}"))
}

fn fields(scene: &Scene) -> Found {
    in_each(scene, &["Control:3.0"], |scene, version| {
        let whole = info(version, &scene.certificate, Installed::Nothing, 0);
        // A text of 5 bytes, installed and the staged key; the peers at the end.
        let peers = whole.len() - (4 + 4 + 16 + 1);
        let with = |at: usize, bytes: &[u8]| [&whole[..at], bytes].concat();
        is_refused(scene, version, "a Maybe of 02", &with(9, &[2]))?;
        let long = &4097u32.to_be_bytes();
        is_refused(scene, version, "a text of 4097 bytes", long)?;
        let many = with(peers, &257u32.to_be_bytes());
        is_refused(scene, version, "a list of 257", &many)
    })
}

fn results(scene: &Scene) -> Found {
    let install = scene.install()?;
    in_each(scene, &VERSIONS[1..], |scene, version| {
        for result in [0, 1, 2, 3, 4, 5, 999] {
            let agent = Agent { result, info: &[] };
            let (ended, _) = run(scene, install, version, &agent)?;
            let what = format!("an install with the result {result}, in {version}");
            if result == 0 {
                ended.succeeds(&what)?;
            } else {
                ended.fails(&what)?;
            }
        }
        Ok(())
    })
}

fn requests(scene: &Scene) -> Found {
    in_each(scene, &VERSIONS[1..], |scene, version| {
        let info = info(version, &scene.certificate, Installed::Key, 0);
        let certificate = scene.certificate.bytes();
        let commands = [
            (Ok(scene.status()), 4, Vec::new()),
            (scene.generate(), 0, Vec::new()),
            (scene.install(), 3, certificate),
        ];
        for (command, number, rest) in commands {
            let Ok(command) = command else { continue };
            let agent = Agent {
                result: 0,
                info: &info,
            };
            let (ended, requests) = run(scene, command, version, &agent)?;
            hold(
                requests.contains(&(number, rest)),
                format!("{version}: `{command}` does not come to {number}: {requests:02x?}"),
            )?;
            ended.succeeds(&format!("`{command}`, in {version}"))?;
        }
        Ok(())
    })?;
    let Ok(drop_active) = scene.drop_active() else {
        return Ok(());
    };
    in_each(scene, &VERSIONS[1..3], |scene, version| {
        let agent = Agent {
            result: 0,
            info: &[],
        };
        let (ended, requests) = run(scene, drop_active, version, &agent)?;
        hold(
            requests.contains(&(5, Vec::new())),
            format!("{version}: `{drop_active}` does not come to 5: {requests:02x?}"),
        )?;
        ended.succeeds(&format!("`{drop_active}`, in {version}"))
    })
}

fn no_drop(scene: &Scene) -> Found {
    let drop_active = scene.drop_active()?;
    in_each(scene, &VERSIONS[3..], |scene, version| {
        let agent = Agent {
            result: 0,
            info: &[],
        };
        let (ended, requests) = run(scene, drop_active, version, &agent)?;
        let asked = requests.iter().any(|request| request.0 == 5);
        hold(
            !asked,
            format!("{version} has no request 5, and it is sent"),
        )?;
        ended.fails(&format!("`{drop_active}`, in {version}"))
    })
}
