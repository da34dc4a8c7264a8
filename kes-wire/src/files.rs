//! Files that operators carry about: read with a bound, written whole or not at all.
//!
//! A file is written beside its place, flushed to the device, and then given its name: whoever
//! finds it there finds all of it, on a USB stick that is pulled out as on any other disk.
//! `-` stands for standard input or output.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::sys::memory::{LockError, LockedBytes};

/// Whether a file that is there may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// It may not.
    No,
    /// It may. Where a symbolic link stands there, the file that it leads to is replaced: the next
    /// command reads that one.
    Yes,
    /// It may, and so may a symbolic link: it is replaced itself. For what runs unattended in a
    /// folder of others, who do not choose so what is replaced elsewhere.
    OrLink,
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// The owner alone (mode 0600).
    Secret,
    /// Everybody whom the umask lets (mode 0644 at the most).
    Public,
}

/// Why a file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is there already.
    #[error("{path} exists already", path = .0.display())]
    Exists(PathBuf),
    /// A device, a folder or the like stands there: it is not replaced by a file.
    #[error("{path} is not an ordinary file", path = .0.display())]
    NotAFile(PathBuf),
    /// A secret is not written to standard output.
    #[error("a secret is not written to standard output; name a file")]
    SecretToStandardOutput,
    /// It is larger than anything of its kind.
    #[error("{path} is larger than {most} bytes: it is not the right file", path = path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// How much was allowed.
        most: usize,
    },
    /// The system refuses.
    #[error("{path}: {doing}: {error}", path = path.display())]
    System {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// Memory for a secret cannot be locked.
    #[error(transparent)]
    Lock(#[from] LockError),
}

impl FileError {
    fn system(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::System { path, doing, error }
    }

    /// Whether the user may not do it.
    #[must_use]
    pub fn is_permission(&self) -> bool {
        matches!(self, Self::System { error, .. } if error.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Whether a file stands in the way.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        matches!(self, Self::Exists(_))
    }
}

fn is_standard(path: &Path) -> bool {
    path.as_os_str() == OsStr::new("-")
}

/// Reads a file, or standard input, of at most `most` bytes.
///
/// # Errors
/// [`FileError`]
pub fn read_limited(path: &Path, most: usize) -> Result<Vec<u8>, FileError> {
    if is_standard(path) {
        return read_all(path, io::stdin().lock(), most);
    }
    let file = File::open(path).map_err(FileError::system(path, "cannot be opened"))?;
    read_all(path, file, most)
}

fn read_all(path: &Path, source: impl Read, most: usize) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let bound = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    source
        .take(bound)
        .read_to_end(&mut bytes)
        .map_err(FileError::system(path, "cannot be read"))?;
    if bytes.len() > most {
        return Err(FileError::TooLarge {
            path: path.to_owned(),
            most,
        });
    }
    Ok(bytes)
}

/// Reads a file, or standard input, of less than `N` bytes straight into locked memory; gives its
/// length too.
///
/// # Errors
/// [`FileError`]
pub fn read_locked<const N: usize>(path: &Path) -> Result<(LockedBytes<N>, usize), FileError> {
    // Neither has a buffer: each read goes from the system into the locked memory.
    if is_standard(path) {
        return fill_locked(path, |into| {
            Ok(rustix::io::read(rustix::stdio::stdin(), into)?)
        });
    }
    let mut file = File::open(path).map_err(FileError::system(path, "cannot be opened"))?;
    fill_locked(path, |into| file.read(into))
}

fn fill_locked<const N: usize>(
    path: &Path,
    mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> Result<(LockedBytes<N>, usize), FileError> {
    let mut locked = LockedBytes::<N>::zeroed()?;
    let mut length = 0;
    loop {
        if length == N {
            return Err(FileError::TooLarge {
                path: path.to_owned(),
                most: N - 1,
            });
        }
        match read(&mut locked.expose_mut()[length..]) {
            Ok(0) => return Ok((locked, length)),
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FileError::system(path, "cannot be read")(error)),
        }
    }
}

/// Checks, before anything is done, that [`write`](fn@write) will not be refused for a file in the way or a
/// missing folder.
///
/// # Errors
/// [`FileError`]
pub fn check_target(path: &Path, overwrite: Overwrite) -> Result<(), FileError> {
    if is_standard(path) {
        return Ok(());
    }
    if overwrite == Overwrite::No && path.symlink_metadata().is_ok() {
        return Err(FileError::Exists(path.to_owned()));
    }
    folder(&place(path, overwrite)?)
        .metadata()
        .map(drop)
        .map_err(FileError::system(path, "its folder cannot be used"))
}

/// Writes a file whole or not at all, flushed to the device before this returns. Gives whether
/// anything was changed: a file that has this content already is left alone.
///
/// # Errors
/// [`FileError`]; nothing of the new content is left behind then.
pub fn write(
    path: &Path,
    content: &[u8],
    overwrite: Overwrite,
    visibility: Visibility,
) -> Result<bool, FileError> {
    if is_standard(path) {
        // Standard output has a buffer in ordinary memory, and goes who knows where.
        if visibility == Visibility::Secret {
            return Err(FileError::SecretToStandardOutput);
        }
        let mut stdout = io::stdout().lock();
        return stdout
            .write_all(content)
            .and_then(|()| stdout.flush())
            .map(|()| true)
            .map_err(FileError::system(path, "standard output cannot be written"));
    }
    let place = place(path, overwrite)?;
    let path = place.as_path();
    // What stands in a secret's place may be a secret too: it is not read.
    if visibility == Visibility::Public && has_content(path, content) {
        return Ok(false);
    }
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        return Err(FileError::NotAFile(path.to_owned()));
    }
    if overwrite == Overwrite::No && path.symlink_metadata().is_ok() {
        return Err(FileError::Exists(path.to_owned()));
    }
    let failed = |doing| FileError::system(path, doing);
    let folder = folder(path);
    // Removed by itself where a later step fails.
    let mut file = tempfile::Builder::new()
        .prefix(".kes-")
        .suffix(".part")
        .permissions(Permissions::from_mode(mode(visibility)))
        .tempfile_in(folder)
        .map_err(failed("cannot be written"))?;
    file.as_file_mut()
        .write_all(content)
        .map_err(failed("cannot be written"))?;
    file.as_file()
        .sync_all()
        .map_err(failed("cannot be flushed to the device"))?;
    match overwrite {
        Overwrite::Yes | Overwrite::OrLink => {
            file.persist(path)
                .map_err(|e| failed("cannot be written")(e.error))?;
        }
        Overwrite::No => {
            let temporary = file.into_temp_path();
            rename_where_free(&temporary, path)?;
            // It has its name now: there is nothing left to remove.
            let _ = temporary.keep();
        }
    }
    sync_folder(folder).map_err(failed("cannot be flushed to the device"))?;
    Ok(true)
}

/// Where a file goes: beside its place it is written on the device that it is meant for, and a link
/// to a stick stays one. A link that leads nowhere is to a stick that is not there.
fn place(path: &Path, overwrite: Overwrite) -> Result<PathBuf, FileError> {
    match overwrite {
        Overwrite::Yes if path.is_symlink() => path
            // The kernel follows no link that another user has put into a folder of all.
            .metadata()
            .and_then(|_| path.canonicalize())
            .map_err(FileError::system(path, "its link cannot be followed")),
        Overwrite::Yes | Overwrite::No | Overwrite::OrLink => Ok(path.to_owned()),
    }
}

/// Whether `path` is an ordinary file with exactly this content.
fn has_content(path: &Path, content: &[u8]) -> bool {
    path.symlink_metadata().is_ok_and(|file| file.is_file())
        && read_limited(path, content.len()).is_ok_and(|found| found == content)
}

/// Gives `from` the name `to` unless something has that name.
fn rename_where_free(from: &Path, to: &Path) -> Result<(), FileError> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(FileError::Exists(to.to_owned())),
        // A file system that cannot do it in one step (some on USB sticks): the look before is
        // what there is.
        Err(Errno::INVAL | Errno::NOSYS) => {
            if to.symlink_metadata().is_ok() {
                return Err(FileError::Exists(to.to_owned()));
            }
            std::fs::rename(from, to).map_err(FileError::system(to, "cannot be written"))
        }
        Err(error) => Err(FileError::system(to, "cannot be written")(error.into())),
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Flushes the folder's list of names. Some file systems cannot, and have nothing to flush.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
        other => other,
    }
}

fn mode(visibility: Visibility) -> u32 {
    match visibility {
        Visibility::Secret => 0o600,
        Visibility::Public => 0o644,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_file_appears_whole_and_is_not_replaced_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kes.vkey");
        check_target(&path, Overwrite::No).unwrap();
        assert!(write(&path, b"first", Overwrite::No, Visibility::Public).unwrap());
        assert!(!write(&path, b"first", Overwrite::No, Visibility::Public).unwrap());
        let refused = write(&path, b"second", Overwrite::No, Visibility::Public).unwrap_err();
        assert!(refused.is_exists());
        assert!(check_target(&path, Overwrite::No).unwrap_err().is_exists());
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        check_target(&path, Overwrite::Yes).unwrap();
        write(&path, b"second", Overwrite::Yes, Visibility::Public).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(
            names(folder.path()),
            ["kes.vkey"],
            "nothing else is left behind"
        );
    }

    #[test]
    fn a_link_stays_and_what_it_leads_to_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (stick, elsewhere) = (folder.path().join("stick"), folder.path().join("elsewhere"));
        std::fs::create_dir(&stick).unwrap();
        let link = folder.path().join("opcert.counter");
        symlink("stick/opcert.counter", &link).unwrap();
        // The stick is not there.
        assert!(check_target(&link, Overwrite::Yes).is_err());
        assert!(write(&link, b"3", Overwrite::Yes, Visibility::Public).is_err());
        let refused = write(&link, b"3", Overwrite::No, Visibility::Public).unwrap_err();
        assert!(refused.is_exists());
        let target = stick.join("opcert.counter");
        std::fs::write(&target, b"3").unwrap();
        check_target(&link, Overwrite::Yes).unwrap();
        assert!(write(&link, b"4", Overwrite::Yes, Visibility::Public).unwrap());
        assert!(!write(&link, b"4", Overwrite::Yes, Visibility::Public).unwrap());
        assert!(link.is_symlink());
        assert_eq!(std::fs::read(&target).unwrap(), b"4");
        assert_eq!(names(&stick), ["opcert.counter"]);
        // What leaves its folder to others does not follow their links.
        std::fs::write(&elsewhere, b"theirs").unwrap();
        let metrics = folder.path().join("kes.prom");
        symlink(&elsewhere, &metrics).unwrap();
        assert!(write(&metrics, b"up 1", Overwrite::OrLink, Visibility::Public).unwrap());
        assert!(!metrics.is_symlink());
        assert_eq!(std::fs::read(&metrics).unwrap(), b"up 1");
        assert_eq!(std::fs::read(&elsewhere).unwrap(), b"theirs");
    }

    #[test]
    fn a_name_taken_in_the_last_moment_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::write(&from, b"new").unwrap();
        std::fs::write(&to, b"old").unwrap();
        assert!(rename_where_free(&from, &to).unwrap_err().is_exists());
        assert_eq!(std::fs::read(&to).unwrap(), b"old");
    }

    #[test]
    fn a_secret_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cold.skey");
        write(&path, b"secret", Overwrite::No, Visibility::Secret).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let standard = write(
            Path::new("-"),
            b"secret",
            Overwrite::Yes,
            Visibility::Secret,
        );
        assert!(matches!(standard, Err(FileError::SecretToStandardOutput)));
        let (locked, length) = read_locked::<16>(&path).unwrap();
        assert_eq!(&locked.expose()[..length], b"secret");
    }

    #[test]
    fn failures_leave_nothing_and_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no/such/folder");
        assert!(write(&missing, b"x", Overwrite::No, Visibility::Public).is_err());
        assert!(check_target(&missing, Overwrite::No).is_err());
        // A folder of that name cannot be replaced by a file.
        let taken = folder.path().join("taken");
        std::fs::create_dir(&taken).unwrap();
        assert!(write(&taken, b"x", Overwrite::Yes, Visibility::Public).is_err());
        assert_eq!(names(folder.path()), ["taken"]);
        // Nor is a device.
        let refused = write(
            Path::new("/dev/null"),
            b"x",
            Overwrite::Yes,
            Visibility::Public,
        );
        assert!(matches!(refused, Err(FileError::NotAFile(_))));
        assert!(read_limited(&missing, 10).is_err());
        assert!(read_limited(folder.path(), 10).is_err());
    }

    #[test]
    fn huge_files_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("huge");
        std::fs::write(&path, [b'x'; 100]).unwrap();
        assert_eq!(read_limited(&path, 100).unwrap().len(), 100);
        assert!(matches!(
            read_limited(&path, 99),
            Err(FileError::TooLarge { .. })
        ));
        assert!(matches!(
            read_limited(Path::new("/dev/zero"), 99),
            Err(FileError::TooLarge { .. })
        ));
        assert!(matches!(
            read_locked::<100>(&path),
            Err(FileError::TooLarge { .. })
        ));
        assert!(read_locked::<101>(&path).is_ok());
    }
}
