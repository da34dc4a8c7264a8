//! A link between an agent and its peer: a socket that hands every byte on to the peer's, and that
//! can be cut and mended while both run on.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

/// A link. It ends when it is dropped.
pub struct Link {
    path: PathBuf,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    is_cut: bool,
    has_ended: bool,
    /// Both ends of what goes through it.
    through: Vec<UnixStream>,
}

impl Shared {
    fn break_all(&mut self) {
        for stream in self.through.drain(..) {
            // Closed already is as good.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Link {
    /// Listens at `path` and hands on to the socket `target`, whoever listens there by then.
    ///
    /// # Panics
    /// Where it cannot listen.
    #[must_use]
    pub fn new(path: &Path, target: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a free path");
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (seen, target) = (Arc::clone(&shared), target.to_owned());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if seen.lock().expect("no panic").has_ended {
                    return;
                }
                // One that cannot be handed on is closed: so a forwarded socket does it.
                let _ = hand_on(stream, &target, &seen);
            }
        });
        Self {
            path: path.to_owned(),
            shared,
        }
    }

    /// Breaks what goes through it and lets nothing through any more.
    pub fn cut(&self) {
        let mut shared = self.lock();
        shared.is_cut = true;
        shared.break_all();
    }

    /// Lets everything through again.
    pub fn mend(&self) {
        self.lock().is_cut = false;
    }

    /// Whether it is cut.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.lock().is_cut
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().expect("no panic")
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let mut shared = self.lock();
        shared.has_ended = true;
        shared.break_all();
        drop(shared);
        // Wakes the listener.
        let _ = UnixStream::connect(&self.path);
    }
}

fn hand_on(near: UnixStream, target: &Path, shared: &Mutex<Shared>) -> io::Result<()> {
    let mut seen = shared.lock().expect("no panic");
    if seen.is_cut {
        return Ok(());
    }
    let far = UnixStream::connect(target)?;
    for (from, to) in [(&near, &far), (&far, &near)] {
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || {
            // However it ends, both are closed then.
            let _ = io::copy(&mut from, &mut to);
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    seen.through.extend([near, far]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn bytes_pass_until_it_is_cut_and_again_once_it_is_mended() {
        let folder = tempfile::tempdir().expect("a folder");
        let (near, far) = (folder.path().join("near"), folder.path().join("far"));
        let listener = UnixListener::bind(&far).expect("a path");
        let link = Link::new(&near, &far);
        for _ in 0..2 {
            let mut one = UnixStream::connect(&near).expect("a link");
            let (mut other, _) = listener.accept().expect("its other end");
            one.write_all(b"there").expect("bytes");
            other.write_all(b"back").expect("bytes");
            let (mut there, mut back) = ([0; 5], [0; 4]);
            other.read_exact(&mut there).expect("bytes");
            one.read_exact(&mut back).expect("bytes");
            assert_eq!((&there, &back), (b"there", b"back"));
            link.cut();
            assert_eq!(one.read(&mut back).expect("an end"), 0);
            assert_eq!(other.read(&mut there).expect("an end"), 0);
            let mut refused = UnixStream::connect(&near).expect("a listener");
            assert_eq!(refused.read(&mut back).expect("an end"), 0);
            link.mend();
        }
    }
}
