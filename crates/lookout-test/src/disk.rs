//! A file system so small that a test can fill it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::part;

/// The file that takes what is left.
const FILLER: &str = "filler";
/// Bytes written at a time, and at last: a file system gives space by pages or less.
const CHUNKS: [usize; 2] = [1 << 16, 1];

/// A mounted file system; it is unmounted when this value ends.
#[derive(Debug)]
pub struct SmallDisk {
    mount: PathBuf,
    _folder: TempDir,
}

impl SmallDisk {
    /// One of this size, or `None` after a loud skip; see [`part::require`].
    ///
    /// # Panics
    /// When it cannot be had and all parts are required.
    pub fn for_test(mebibytes: u32) -> Option<Self> {
        part::require("a small file system (mounting one needs root)", Self::mount(mebibytes))
    }

    fn mount(mebibytes: u32) -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let mount = folder.path().join("disk");
        std::fs::create_dir(&mount)?;
        let size = format!("size={mebibytes}m,mode=700");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &size, "lookout-test"]).arg(&mount);
        let done = command.output().context("cannot run `mount`")?;
        check("mount", &done)?;
        Ok(Self { mount, _folder: folder })
    }

    /// Its root.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Writes until nothing fits any more, not even where something was freed since the last time.
    ///
    /// # Errors
    /// When something else than the end of the space comes in between.
    pub fn fill(&self) -> Result<()> {
        let mut open = OpenOptions::new();
        let mut filler = open.create(true).append(true).open(self.filler())?;
        for chunk in CHUNKS {
            fill(&mut filler, chunk)?;
        }
        ensure!(std::fs::write(self.mount.join("more"), [0]).is_err(), "there is still room");
        // The name of the file that could not be written needs no space.
        std::fs::remove_file(self.mount.join("more")).context("cannot remove what did not fit")
    }

    /// Gives the space back.
    ///
    /// # Errors
    /// When it was not filled.
    pub fn make_room(&self) -> Result<()> {
        std::fs::remove_file(self.filler()).context("it was not filled")
    }

    fn filler(&self) -> PathBuf {
        self.mount.join(FILLER)
    }
}

impl Drop for SmallDisk {
    #[expect(clippy::print_stderr, reason = "a mount that stays behind must be seen")]
    fn drop(&mut self) {
        // Lazily: a process that was just killed may not be gone yet.
        let done = Command::new("umount").arg("-l").arg(&self.mount).output();
        let done = done.context("cannot run `umount`").and_then(|done| check("umount", &done));
        if let Err(error) = done {
            eprintln!("{} stays mounted: {error:#}", self.mount.display());
        }
    }
}

fn fill(file: &mut File, chunk: usize) -> Result<()> {
    let bytes = vec![0x55; chunk];
    loop {
        match file.write(&bytes) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error).context("cannot fill the file system"),
        }
    }
}

fn check(name: &str, done: &Output) -> Result<()> {
    if !done.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! It is small, it fills, and it is there for one test.

    use super::*;

    #[test]
    fn fills_and_has_room_again() {
        let Some(disk) = SmallDisk::for_test(1) else { return };
        let file = disk.path().join("file");
        std::fs::write(&file, vec![1; 1 << 19]).unwrap();
        disk.fill().unwrap();
        let full = std::fs::write(disk.path().join("other"), [1]).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::StorageFull);
        assert_eq!(std::fs::read(&file).unwrap().len(), 1 << 19);
        disk.make_room().unwrap();
        std::fs::write(disk.path().join("other"), [1]).unwrap();
        let path = disk.path().to_owned();
        drop(disk);
        assert!(!path.exists());
    }
}
