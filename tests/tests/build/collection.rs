//! The recipes in `recipes/`: each is built twice, in different places, and run.
//!
//! A recipe is text: what it is about, and files, each behind a line `//- PATH`. `@flags` are further
//! flags of the build, `@run` is what is run instead of the image's command, and `@expect` is what that
//! prints. `@parity` marks those whose language is that of older builders, for a comparison with them
//! that is not made yet; `parity.rs` makes one for a Dockerfile of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use testkit::Sandbox;

/// The fewest there are.
const RECIPES_MIN: usize = 60;

struct Recipe {
    name: String,
    files: String,
    own: BTreeMap<String, String>,
}

impl Recipe {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let (mut files, mut own) = (String::new(), BTreeMap::new());
        for part in text.split("//- ").skip(1) {
            let (name, content) = part.split_once('\n').unwrap();
            match name.strip_prefix('@') {
                Some(name) => drop(own.insert(name.to_owned(), content.to_owned())),
                None => files += &format!("//- {part}"),
            }
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        Self { name, files, own }
    }

    fn all() -> Vec<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/build/recipes");
        let mut paths: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn flags(&self) -> String {
        self.own.get("flags").map_or_else(String::new, |flags| flags.replace('\n', " "))
    }

    /// Writes its context below a directory of its own.
    fn write(&self, sandbox: &Sandbox) {
        super::write(&sandbox.work().join(&self.name).join("ctx"), &self.files);
    }

    /// Builds it, and tells the digest of its manifest.
    fn build(&self, sandbox: &Sandbox, prepare: &str) -> String {
        let (name, flags) = (&self.name, self.flags());
        let script = format!(
            "cd {name}; {prepare}\n$E build -q --network none -t {name} --metadata-file meta.json \
             {flags} ctx >/dev/null && sed -n 's/.*containerimage.digest\": //p' meta.json"
        );
        sandbox.shell(&script).ok().to_owned()
    }
}

#[test]
fn every_recipe_runs_and_is_the_same_elsewhere() {
    let (here, elsewhere) = (Sandbox::new(), Sandbox::new());
    let recipes = Recipe::all();
    assert!(recipes.len() >= RECIPES_MIN, "there are {}", recipes.len());
    let other = "umask 077; export TZ=Asia/Tokyo LC_ALL=C; mv ctx moved; mkdir ctx
                 for f in $(ls -rA moved); do cp -r moved/$f ctx/; done
                 find ctx -exec touch -d 2001-02-03 {} +; chmod -R u=rwX,go=rX ctx";
    for recipe in &recipes {
        recipe.write(&here);
        recipe.write(&elsewhere);
        let digest = recipe.build(&here, "true");
        assert_eq!(digest, recipe.build(&elsewhere, other), "{}", recipe.name);
        let line = match recipe.own.get("run") {
            None => format!("$E run --rm --network none {}", recipe.name),
            Some(line) => {
                let name = &recipe.name;
                fs::write(here.work().join(name).join("line"), line).unwrap();
                format!(
                    "$E run --rm --network none --entrypoint sh {name} -c \"$(cat {name}/line)\""
                )
            }
        };
        let ran = here.shell(&line);
        let expected = recipe.own["expect"].trim_end_matches('\n');
        assert_eq!(ran.ok(), expected, "{}: {ran}", recipe.name);
    }
}
