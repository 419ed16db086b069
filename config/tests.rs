mod examples;
mod faults;
mod hba;
mod layers;
mod manual;
mod reload;
mod sharding;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{Config, Faults, LoadInput, Loaded};

/// A directory with configuration files, and what surrounds them.
struct Place {
    dir: TempDir,
    input: LoadInput,
}

impl Place {
    /// Makes a place with a main file, `pgherd.toml`.
    fn with(text: &str) -> Self {
        let mut place = Self::bare();
        place.write("pgherd.toml", text);
        place.input.file = Some(place.path("pgherd.toml"));
        place
    }

    /// Makes a place without any file.
    fn bare() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            dir,
            input: LoadInput::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        only_ours(&path);
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.input.env.insert(name.to_owned(), value.to_owned());
        self
    }

    fn url(mut self, url: &str) -> Self {
        self.input.overrides.urls.push(url.to_owned());
        self
    }

    fn load(&self) -> Result<Loaded, Faults> {
        Config::load(&self.input)
    }

    fn config(&self) -> Config {
        self.load()
            .unwrap_or_else(|faults| panic!("{faults}"))
            .config
    }

    /// Gives the faults as they are printed, without the directory.
    fn faults(&self) -> String {
        let faults = self.load().expect_err("there should be faults").to_string();
        faults.replace(&format!("{}/", self.dir.path().display()), "")
    }

    /// Gives the warnings as they are printed, without the directory.
    fn warnings(&self) -> Vec<String> {
        let loaded = self.load().unwrap_or_else(|faults| panic!("{faults}"));
        let dir = format!("{}/", self.dir.path().display());
        loaded
            .warnings
            .iter()
            .map(|it| it.to_string().replace(&dir, ""))
            .collect()
    }
}

fn only_ours(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

const PEM: &str = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n";
