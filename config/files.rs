//! Files that settings name: whether they are there, and who else may read them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::fault::Problem;
use crate::reader::Reader;
use crate::secret::Secret;

/// The largest file that is taken for a certificate or a secret, in bytes.
const LARGEST: u64 = 4 << 20;

/// Finds a certificate file that cannot be used.
pub(crate) fn check_pem(key: &str, file: &Path, reader: &mut Reader<'_>) {
    match read(file) {
        Ok(text) if text.contains("-----BEGIN ") => {}
        Ok(_) => {
            let why = "there is no PEM block in it".to_owned();
            reader.fault(
                key,
                Problem::File {
                    file: file.to_owned(),
                    why,
                },
                "a PEM file",
            );
        }
        Err(problem) => reader.fault(key, problem, "a PEM file that can be read"),
    }
}

/// Finds a private key that cannot be used, or that others may read.
pub(crate) fn check_key(key: &str, file: &Path, reader: &mut Reader<'_>) {
    check_pem(key, file, reader);
    warn_if_open(key, file, reader);
}

/// Reads a secret given in place under `key`, or in the file named under `file_key`.
pub(crate) fn secret(
    key: &'static str,
    file_key: &'static str,
    reader: &mut Reader<'_>,
) -> Option<Secret> {
    let inline: Option<Secret> = reader.optional(key);
    let file: Option<PathBuf> = reader.optional(file_key);
    if reader.has(key) && reader.has(file_key) {
        let problem = format!("is given, and so is `{key}`");
        reader.contradiction(file_key, problem, "one of the two");
        return None;
    }
    let Some(file) = file else { return inline };
    warn_if_open(file_key, &file, reader);
    match read(&file) {
        Ok(text) => {
            // Editors and `echo` end the file with a line feed that is not part of the secret.
            let text = text.strip_suffix('\n').unwrap_or(&text);
            let text = text.strip_suffix('\r').unwrap_or(text);
            if text.is_empty() || text.contains('\0') {
                let why = "there is no secret in it".to_owned();
                reader.fault(file_key, Problem::File { file, why }, "one line of text");
                return None;
            }
            Some(Secret::new(text))
        }
        Err(problem) => {
            reader.fault(file_key, problem, "a file that can be read");
            None
        }
    }
}

/// Reads a text file of a sane size.
pub(crate) fn read(file: &Path) -> Result<String, Problem> {
    let problem = |why: String| Problem::File {
        file: file.to_owned(),
        why,
    };
    let about = std::fs::metadata(file).map_err(|error| problem(plain(&error)))?;
    if !about.is_file() {
        return Err(problem("not a file".to_owned()));
    }
    if about.len() > LARGEST {
        return Err(problem("larger than 4 MiB".to_owned()));
    }
    std::fs::read_to_string(file).map_err(|error| problem(plain(&error)))
}

/// Words an I/O error without the number that the system adds.
pub(crate) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}

/// Tells whether users other than the owner may read a file.
pub(crate) fn is_open(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|about| about.permissions().mode() & 0o007 != 0)
}

fn warn_if_open(key: &str, file: &Path, reader: &mut Reader<'_>) {
    if is_open(file) {
        reader.warn(key, "every user of this machine may use the file");
    }
}
