//! What is behind `RUN --mount=`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(file) = build::Dockerfile::parse(&format!("FROM x\nRUN --mount={text} true\n")) else {
        return;
    };
    for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
        let build::Command::Run(run) = &instruction.command else { continue };
        for mount in &run.mounts {
            let _ = mount.resolve(&mut |value| Ok(value.replace('$', "a")));
        }
    }
});
