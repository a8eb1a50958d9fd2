//! The file of `--chart`.

use std::fs::{self, File};
use std::io::{self, Seek, Write};

/// A file that is open for writing. Its content does not change before [`ChartFile::write`].
pub(in super::super) struct ChartFile {
    name: String,
    file: File,
    /// Whether this run created the file. If so, it is removed unless it is written.
    is_new: bool,
}

impl ChartFile {
    /// Opens the file, or creates it.
    ///
    /// # Errors
    /// The reason in one line.
    pub(in super::super) fn open(name: &str) -> Result<Self, String> {
        let is_new = !fs::exists(name).unwrap_or(true);
        // An existing file is not truncated here: it would be lost if nothing is measured.
        let opened = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(name);
        match opened {
            Ok(file) => Ok(Self {
                name: name.to_owned(),
                file,
                is_new,
            }),
            Err(error) => Err(describe(name, &error)),
        }
    }

    /// Replaces the content of the file.
    ///
    /// # Errors
    /// The reason in one line.
    pub(in super::super) fn write(mut self, content: &str) -> Result<(), String> {
        self.replace(content)
            .map_err(|error| describe(&self.name, &error))?;
        self.is_new = false;
        Ok(())
    }

    fn replace(&mut self, content: &str) -> io::Result<()> {
        // A pipe or a device has no length.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
            self.file.rewind()?;
        }
        self.file.write_all(content.as_bytes())
    }
}

impl Drop for ChartFile {
    fn drop(&mut self) {
        if self.is_new {
            let _ = fs::remove_file(&self.name);
        }
    }
}

fn describe(name: &str, error: &io::Error) -> String {
    format!("cannot write the chart to {name:?}: {error}")
}
