//! A value that may be given by a flag, by the environment, or in a file.

use std::ffi::{OsStr, OsString};
use std::fs;

use anyhow::{Context, Result, bail, ensure};

/// A value, or a file that holds it. A file keeps a secret out of the environment and out of the list of processes. An empty
/// value counts as not given, because compose files leave variables empty.
pub(crate) struct Given<'a> {
    flag: &'static str,
    value: Option<&'a str>,
    file: Option<&'a OsStr>,
}

impl<'a> Given<'a> {
    /// The values of `flag` and of the flag with `-file` at its end.
    pub(crate) fn new(flag: &'static str, value: &'a Option<String>, file: &'a Option<OsString>) -> Self {
        let value = value.as_deref().filter(|value| !value.is_empty());
        let file = file.as_deref().filter(|file| !file.is_empty());
        Self { flag, value, file }
    }

    /// The value, without the newlines at the end of a file.
    pub(crate) fn read(&self) -> Result<Option<String>> {
        let flag = self.flag;
        match (self.value, self.file) {
            (None, None) => Ok(None),
            (Some(value), None) => Ok(Some(value.to_owned())),
            (Some(_), Some(_)) => {
                let variable = flag.trim_start_matches('-').replace('-', "_").to_uppercase();
                bail!(
                    "{flag} (SECKILL_{variable}) and {flag}-file (SECKILL_{variable}_FILE) are both given; give one of them and leave the \
                     other empty"
                )
            }
            (None, Some(file)) => {
                let shown = file.display();
                let text = fs::read_to_string(file)
                    .with_context(|| format!("cannot read {shown}, which {flag}-file names"))?;
                let text = text.trim_end_matches(['\r', '\n']);
                ensure!(
                    !text.is_empty(),
                    "{shown}, which {flag}-file names, is empty; write the value into it"
                );
                Ok(Some(text.to_owned()))
            }
        }
    }

    /// The value, or `default` where none is given.
    pub(crate) fn read_or(&self, default: &str) -> Result<String> {
        Ok(self.read()?.unwrap_or_else(|| default.to_owned()))
    }
}
