//! What an operator does, over the best control version that the agent offers.

use ciborium::Value;

use super::{Scene, not_offered};
use crate::conformance::keys::{Certificate, Message};
use crate::conformance::rotation::{self, Answer, call, keygen, number_at, plain};
use crate::conformance::wire::{QUIET, Wire};
use crate::conformance::{Found, broken, does_not_apply, hold};

pub(super) const ROTATION: &str = "Control:Rotation:1.0";

/// An operator.
pub(super) struct Operator<'a> {
    scene: &'a Scene,
    wire: Wire,
    is_rotation: bool,
}

impl<'a> Operator<'a> {
    pub(super) fn connect(scene: &'a Scene) -> Found<Self> {
        scene.cold()?;
        for (version, is_rotation) in [(ROTATION, true), ("Control:3.0", false)] {
            let wire = scene.control_socket()?;
            if wire.settle_control(version)? {
                return Ok(Self {
                    scene,
                    wire,
                    is_rotation,
                });
            }
        }
        not_offered("neither Control:Rotation:1.0 nor Control:3.0")
    }

    /// The connection, where it is in Control:Rotation:1.0.
    pub(super) fn rotation(&self) -> Found<&Wire> {
        if self.is_rotation {
            Ok(&self.wire)
        } else {
            not_offered(ROTATION)
        }
    }

    pub(super) fn call(&self, request: &Value) -> Found<Answer> {
        call(self.rotation()?, request)
    }

    pub(super) fn status(&self) -> Found<Value> {
        self.call(&plain(4))?.done()
    }

    /// The current period, by the agent where it says so.
    pub(super) fn period(&self) -> Found<u64> {
        if !self.is_rotation {
            return Ok(self.scene.periods()?.now());
        }
        match number_at(&self.status()?, 2) {
            Some(period) => Ok(period),
            None => broken("a status without the current period"),
        }
    }

    /// Drops what is pending.
    pub(super) fn clear(&self) -> Found {
        if self.is_rotation {
            // Refused where nothing is pending.
            self.call(&plain(5)).map(drop)
        } else {
            self.wire.send(&[0, 2])?;
            self.wire.read(1).map(drop)
        }
    }

    /// Generates a key and gives its verification key.
    pub(super) fn generate(&self) -> Found<[u8; 32]> {
        let vkey = if self.is_rotation {
            rotation::pending(&self.call(&keygen(1))?.done()?)?.1
        } else {
            self.wire.send(&[0, 0])?;
            match self.wire.read(1)?[0] {
                1 => Some(self.wire.read(32)?),
                _ => None,
            }
        };
        match vkey.and_then(|vkey| <[u8; 32]>::try_from(vkey).ok()) {
            Some(vkey) => Ok(vkey),
            None => broken("no key was generated"),
        }
    }

    /// A certificate by the pool's cold key with the next counter.
    pub(super) fn certify(&self, vkey: [u8; 32], start: u64) -> Found<Certificate> {
        let counter = self.scene.next_counter();
        Ok(Certificate::issue(self.scene.cold()?, vkey, counter, start))
    }

    /// Generates a key and a certificate that began so many periods ago.
    pub(super) fn prepare(&self, ago: u64) -> Found<Certificate> {
        let start = self.period()?.saturating_sub(ago);
        self.certify(self.generate()?, start)
    }

    /// Installs a new key whose certificate began so many periods ago.
    pub(super) fn install(&self, ago: u64) -> Found<Certificate> {
        let certificate = self.prepare(ago)?;
        if self.is_rotation {
            self.call(&rotation::activate(&certificate, false))?
                .done()?;
        } else {
            let result = self.install_result(&certificate)?;
            hold(result == 0, format!("an install has the result {result}"))?;
        }
        Ok(certificate)
    }

    /// Activates the pending key with a certificate; `false` where that is refused.
    pub(super) fn try_activate(&self, certificate: &Certificate) -> Found<bool> {
        if self.is_rotation {
            let answer = self.call(&rotation::activate(certificate, false))?;
            return Ok(matches!(answer, Answer::Done { .. }));
        }
        Ok(self.install_result(certificate)? == 0)
    }

    /// The result of an install in Control:3.0.
    fn install_result(&self, certificate: &Certificate) -> Found<u64> {
        self.wire.send(&[0, 3])?;
        self.wire.send(&certificate.bytes())?;
        self.wire.number(2)
    }

    /// Drops the active key.
    pub(super) fn drop_active(&self) -> Found {
        if self.is_rotation {
            self.call(&plain(6))?.done().map(drop)
        } else {
            self.wire.send(&[0, 5])?;
            let result = self.wire.number(2)?;
            hold(result == 0, format!("a drop has the result {result}"))
        }
    }

    /// Finds the counter to go on with, and installs the first key.
    pub(super) fn begin(&self) -> Found {
        if self.is_rotation {
            let mark = number_at(&self.status()?, 10);
            let next = mark.map_or(0, |mark| mark + 1);
            self.scene
                .counter
                .store(next, std::sync::atomic::Ordering::Relaxed);
        }
        if self.period()? < 64 {
            return does_not_apply("fewer than 64 periods have passed on this network");
        }
        self.install(3).map(drop)
    }

    /// Makes sure that a key is served: a check may have dropped it.
    pub(super) fn installed(&self) -> Found {
        if self.is_served()? {
            return Ok(());
        }
        self.install(3).map(drop)
    }

    fn is_served(&self) -> Found<bool> {
        if self.is_rotation {
            return Ok(rotation::active(&self.status()?)?.0 == 1);
        }
        // As a node sees it: a byte that came at once, and what it is the beginning of.
        let says_nothing = self.scene.service("Service:2.0")?.is_quiet(QUIET).is_ok();
        Ok(!says_nothing && matches!(self.scene.told()?, Message::Key(_)))
    }
}
