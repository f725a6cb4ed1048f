//! Each attack against the runtime as it is, where it must fail, and against the runtime without
//! the defence, where it must work: what cannot succeed proves nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use attack::{ATTACKS, Attack, Outcome, Runtime};

fn prove(attack: &Attack) {
    let sound = Runtime::driver(Path::new(env!("CARGO_BIN_EXE_attack-sound")));
    let weakened = Runtime::driver(Path::new(env!("CARGO_BIN_EXE_attack-weakened")));
    let outcome = attack.run(&weakened.without(attack.defence));
    assert!(
        matches!(outcome, Outcome::Broke(_)),
        "proves nothing about {}: {outcome:?}",
        attack.defence
    );
    let outcome = attack.run(&sound);
    assert!(matches!(outcome, Outcome::Held(_)), "{outcome:?}");
}

macro_rules! prove_each {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            let attack = ATTACKS.iter().find(|attack| attack.name == stringify!($name));
            prove(attack.expect("the list has it"));
        }
    )*};
}

attack::for_each_attack!(prove_each);

/// The names in `weakened("…")` of the sources below a directory.
fn switches(directory: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory).expect("the sources are there") {
        let path = entry.expect("the sources are there").path();
        if path.is_dir() {
            names.extend(switches(&path));
            continue;
        }
        let text = fs::read_to_string(&path).expect("the sources can be read");
        let quoted = |part: &str| part.split('"').next().map(str::to_owned);
        names.extend(text.split("weakened(\"").skip(1).filter_map(quoted));
    }
    names
}

#[test]
fn every_defence_with_a_switch_is_attacked() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/runtime/src");
    let attacked = ATTACKS.iter().flat_map(|attack| attack.defence.split(','));
    assert_eq!(switches(&sources), attacked.map(str::to_owned).collect());
}
