//! Both sockets, up to the version that is settled.

use super::{Scene, take};
use crate::conformance::wire::{AT_ONCE, QUIET, Wire, id};
use crate::conformance::{Check, Finding, Found, broken, hold};

pub(super) const SERVICE: [&str; 3] = ["Service:2.0", "Service:1.0", "Service:StandardCrypto:0.4"];
pub(super) const CONTROL: [&str; 4] = [
    "Control:3.0",
    "Control:2.0",
    "Control:1.0",
    "Control:StandardCrypto:0.5",
];

pub(super) fn checks() -> Vec<Check<Scene>> {
    vec![
        Check {
            id: "TR-1",
            what: "each socket offers versions of its own kind",
            run: sockets,
        },
        Check {
            id: "HS-1",
            what: "each id is ASCII, padded with zeros",
            run: ids,
        },
        Check {
            id: "HS-2",
            what: "the agent speaks first: 1 to 64 versions, and no more until it is answered",
            run: offers,
        },
        Check {
            id: "HS-3",
            what: "any id that is offered is settled on",
            run: choices,
        },
        Check {
            id: "HS-4",
            what: "00 ends the connection",
            run: nothing_in_common,
        },
        Check {
            id: "HS-5",
            what: "an id that was not offered and another first byte end the connection",
            run: wrong_choices,
        },
        Check {
            id: "HS-6",
            what: "the agent repeats what was chosen, and closes where the client repeats another",
            run: repetitions,
        },
        Check {
            id: "DEP-1",
            what: "the ids are offered in the order of the table",
            run: order,
        },
        Check {
            id: "VER-3",
            what: "every deployed version is offered",
            run: all_versions,
        },
        Check {
            id: "TR-3",
            what: "bytes that come one by one are put together, on both sockets",
            run: pieces,
        },
        Check {
            id: "TR-5",
            what: "silent connections delay nobody",
            run: silent_others,
        },
        Check {
            id: "SEC-5",
            what: "after garbage and absurd lengths on both sockets all others are served",
            run: garbage,
        },
    ]
}

/// Tries something on both sockets, or on the one that there is.
fn on_both(scene: &Scene, each: impl Fn(&Scene, Wire, bool) -> Found) -> Found {
    let service = scene
        .service_socket()
        .and_then(|wire| each(scene, wire, true));
    let control = scene
        .control_socket()
        .and_then(|wire| each(scene, wire, false));
    match (service, control) {
        (Err(Finding::DoesNotApply(_)), other) | (other, Err(Finding::DoesNotApply(_))) => other,
        (service, control) => service.and(control),
    }
}

fn socket(scene: &Scene, is_service: bool) -> Found<Wire> {
    if is_service {
        scene.service_socket()
    } else {
        scene.control_socket()
    }
}

fn offered(scene: &Scene, is_service: bool) -> Found<Vec<[u8; 32]>> {
    socket(scene, is_service)?.read_offer()
}

fn sockets(scene: &Scene) -> Found {
    on_both(scene, |_, wire, is_service| {
        let kind: &[u8] = if is_service { b"Service:" } else { b"Control:" };
        let offer = wire.read_offer()?;
        let are_its = offer.iter().any(|id| id.starts_with(kind));
        let shown = String::from_utf8_lossy(kind).into_owned();
        hold(are_its, format!("no version {shown}... is offered on it"))
    })
}

fn ids(scene: &Scene) -> Found {
    on_both(scene, |_, wire, _| {
        for id in wire.read_offer()? {
            let name = id.split(|byte| *byte == 0).next().unwrap_or_default();
            let is_name = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
            let is_padded = id[name.len()..].iter().all(|byte| *byte == 0);
            hold(is_name && is_padded, format!("an id {id:02x?}"))?;
        }
        Ok(())
    })
}

fn offers(scene: &Scene) -> Found {
    on_both(scene, |_, wire, _| {
        let offer = wire.read_offer()?;
        let count = offer.len();
        hold((1..=64).contains(&count), format!("{count} versions"))?;
        wire.is_quiet(QUIET)
    })
}

fn choices(scene: &Scene) -> Found {
    on_both(scene, |scene, wire, is_service| {
        for id in wire.read_offer()? {
            let wire = socket(scene, is_service)?;
            wire.read_offer()?;
            wire.send(&[&[1][..], &id].concat())?;
            if is_service {
                wire.read(32)?;
            } else {
                wire.send(&id)?;
                wire.is_quiet(QUIET)?;
            }
        }
        Ok(())
    })
}

/// Whether the agent closes after these bytes.
fn closes_after(wire: &Wire, bytes: &[u8]) -> Found {
    wire.read_offer()?;
    wire.offer_bytes(bytes);
    let said = wire.until_closed(AT_ONCE)?;
    hold(
        said.is_empty(),
        format!("{} bytes before it closed", said.len()),
    )
}

fn nothing_in_common(scene: &Scene) -> Found {
    on_both(scene, |_, wire, _| closes_after(&wire, &[0]))
}

fn wrong_choices(scene: &Scene) -> Found {
    on_both(scene, |scene, wire, is_service| {
        closes_after(&wire, &[&[1][..], &id("Nobody:9.9")].concat())?;
        for first in [2, 255] {
            closes_after(&socket(scene, is_service)?, &[first])?;
        }
        Ok(())
    })
}

fn repetitions(scene: &Scene) -> Found {
    on_both(scene, |_, wire, is_service| {
        let offer = wire.read_offer()?;
        let Some(chosen) = offer.last() else {
            return broken("nothing is offered");
        };
        wire.send(&[&[1][..], chosen].concat())?;
        if is_service {
            let repeated = wire.read(32)?;
            return hold(repeated == chosen, "another id was repeated");
        }
        wire.offer_bytes(&id("Nobody:9.9"));
        wire.until_closed(AT_ONCE).map(drop)
    })
}

fn known(is_service: bool) -> &'static [&'static str] {
    if is_service { &SERVICE } else { &CONTROL }
}

fn order(scene: &Scene) -> Found {
    on_both(scene, |_, wire, is_service| {
        let offer = wire.read_offer()?;
        let place = |name: &&str| offer.iter().position(|offered| *offered == id(name));
        let places: Vec<usize> = known(is_service).iter().filter_map(place).collect();
        hold(places.is_sorted(), "the ids stand in another order")
    })
}

fn all_versions(scene: &Scene) -> Found {
    on_both(scene, |_, wire, is_service| {
        let offer = wire.read_offer()?;
        for name in known(is_service) {
            hold(offer.contains(&id(name)), format!("{name} is not offered"))?;
        }
        Ok(())
    })
}

fn pieces(scene: &Scene) -> Found {
    on_both(scene, |_, wire, is_service| {
        let offer = wire.read_offer()?;
        let Some(chosen) = offer.first() else {
            return broken("nothing is offered");
        };
        wire.send_in_pieces(&[&[1][..], chosen].concat(), 1)?;
        if is_service {
            return wire.read(32).map(drop);
        }
        wire.send_in_pieces(chosen, 1)?;
        // A status, or the staged key: the request of each version that changes nothing.
        if *chosen == id(super::operator::ROTATION) {
            wire.send_in_pieces(&[0, 0, 0, 3, 0x82, 0x04, 0xa0], 1)?;
        } else {
            wire.send_in_pieces(&[0, 1], 1)?;
        }
        wire.read(1).map(drop)
    })
}

fn silent_others(scene: &Scene) -> Found {
    let silent: Vec<_> = (0..16)
        .flat_map(|_| [scene.service_socket(), scene.control_socket()])
        .collect();
    on_both(scene, |_, wire, is_service| {
        let settled = if is_service {
            wire.settle_service(SERVICE[0])?
        } else {
            wire.settle_control(CONTROL[0])?
        };
        hold(settled, "the best deployed version is not offered")
    })
    .inspect(|()| drop(silent))
}

fn garbage(scene: &Scene) -> Found {
    for bytes in [&[0xff; 5000][..], &[1; 33], b"GET / HTTP/1.1\r\n\r\n"] {
        on_both(scene, |_, wire, _| {
            wire.offer_bytes(bytes);
            Ok(())
        })?;
    }
    if let Ok(node) = scene.service(SERVICE[0]) {
        let _ = take(&node);
        node.offer_bytes(&[0xff; 5000]);
    }
    for version in CONTROL {
        if let Ok(command) = scene.control(version) {
            command.offer_bytes(&[0xff; 5000]);
        }
    }
    on_both(scene, |scene, _, is_service| {
        offered(scene, is_service).map(drop)
    })
}
