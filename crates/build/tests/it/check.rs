//! Each check finds what it is there for, and nothing else.

use build::{Dockerfile, Ignore, Request};

use crate::world::{Images, request};

/// The names of all findings, with the first words of the lines that they are about.
fn found_with(text: &str, request: &Request) -> Vec<(String, String)> {
    let file = Dockerfile::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let found = build::check(&file, request, &mut Images::default()).unwrap();
    let buildkit = found.iter().filter(|finding| !finding.rule.is_own);
    buildkit.map(|finding| (finding.rule.name.to_owned(), finding.message.clone())).collect()
}

fn check(text: &str, expected: &[(&str, &str)]) {
    let own = |(rule, message): &(&str, &str)| ((*rule).to_owned(), (*message).to_owned());
    let expected: Vec<_> = expected.iter().map(own).collect();
    assert_eq!(found_with(text, &request()), expected, "{text}");
}

#[test]
fn a_clean_file_has_no_findings() {
    check(
        "# syntax=docker/dockerfile:1\nARG v=1\nFROM busybox:$v AS a\nARG v\nENV x=$v\nWORKDIR /w\n\
         RUN echo $nothing\nCOPY . .\nFROM a\nCMD [\"x\"]\n",
        &[],
    );
}

#[test]
fn casing() {
    check(
        "FROM busybox AS Build\n",
        &[("StageNameCasing", "Stage name 'Build' should be lowercase")],
    );
    check(
        "FROM busybox as a\n",
        &[("FromAsCasing", "'as' and 'FROM' keywords' casing do not match")],
    );
    check("from busybox as a\nrun x\n", &[]);
    check(
        "FROM busybox\nRun x\nRUN y\n",
        &[(
            "ConsistentInstructionCasing",
            "Command 'Run' should match the case of the command majority (uppercase)",
        )],
    );
}

#[test]
fn stage_names() {
    check(
        "FROM busybox AS a\nFROM busybox AS a\n",
        &[("DuplicateStageName", "Duplicate stage name \"a\", stage names should be unique")],
    );
    check(
        "FROM busybox AS scratch\n",
        &[(
            "ReservedStageName",
            "Stage name should not use the same name as reserved stage \"scratch\"",
        )],
    );
}

#[test]
fn lines() {
    check("FROM busybox\nRUN a \\\n\n b\n", &[("NoEmptyContinuation", "Empty continuation line")]);
    check(
        "FROM busybox\nMAINTAINER x\n",
        &[("MaintainerDeprecated", "Maintainer instruction is deprecated in favor of using label")],
    );
    check(
        "FROM busybox\nENV a b\n",
        &[(
            "LegacyKeyValueFormat",
            "\"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
        )],
    );
    check(
        "FROM busybox\nCMD x\n",
        &[(
            "JSONArgsRecommended",
            "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
        )],
    );
    check("FROM busybox\nSHELL [\"/bin/sh\"]\nCMD x\n", &[]);
    check(
        "FROM busybox\nCMD [\"a\"]\nCMD [\"b\"]\n",
        &[(
            "MultipleInstructionsDisallowed",
            "Multiple CMD instructions should not be used in the same stage because only the last \
             one will be used",
        )],
    );
}

#[test]
fn variables() {
    check(
        "ARG version=1\nFROM busybox:$verison\n",
        &[
            (
                "InvalidDefaultArgInFrom",
                "Default value for ARG busybox:$verison results in empty or invalid base image name",
            ),
            (
                "UndefinedArgInFrom",
                "FROM argument 'verison' is not declared (did you mean version?)",
            ),
        ],
    );
    check(
        "FROM busybox\nENV dir=/x\nCOPY a $dri\n",
        &[("UndefinedVar", "Usage of undefined variable '$dri' (did you mean $dir?)")],
    );
    check("FROM busybox\nARG a\nCOPY a /$a\nRUN $b\n", &[]);
    let given = crate::world::with_args(&[("x", "busybox")]);
    let message = "Default value for ARG $x results in empty or invalid base image name";
    let expected = ("InvalidDefaultArgInFrom".to_owned(), message.to_owned());
    assert_eq!(
        found_with(
            "ARG x
FROM $x
",
            &given
        ),
        [expected]
    );
}

#[test]
fn secrets() {
    for name in ["api_key", "DATABASE_PASSWORD", "GITHUB_TOKEN", "AUTH", "secret_x"] {
        let message =
            format!("Do not use ARG or ENV instructions for sensitive data (ARG {name:?})");
        check(&format!("FROM busybox\nARG {name}\n"), &[("SecretsUsedInArgOrEnv", &message)]);
    }
    check("FROM busybox\nENV PUBLIC_KEY=a TOKEN_FILE=b monkey=c authority=d\n", &[]);
}

#[test]
fn platforms() {
    check(
        "FROM --platform=$TARGETPLATFORM busybox\n",
        &[(
            "RedundantTargetPlatform",
            "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the \
             default behavior",
        )],
    );
    check(
        "FROM --platform=linux/amd64 busybox\n",
        &[(
            "FromPlatformFlagConstDisallowed",
            "FROM --platform flag should not use constant value \"linux/amd64\"",
        )],
    );
    check("FROM --platform=linux/amd64 busybox AS build_amd64\n", &[]);
    check(
        "FROM foreign\n",
        &[(
            "InvalidBaseImagePlatform",
            "Base image foreign was pulled with platform \"linux/s390x\", expected \"linux/amd64\" \
             for current build",
        )],
    );
}

#[test]
fn paths_and_ports() {
    check(
        "FROM busybox\nWORKDIR a\nWORKDIR b\n",
        &[(
            "WorkdirRelativePath",
            "Relative workdir \"a\" can have unexpected results if the base image changes",
        )],
    );
    check(
        "FROM busybox\nEXPOSE 80/TCP\n",
        &[(
            "ExposeProtoCasing",
            "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase",
        )],
    );
    check(
        "FROM busybox\nEXPOSE 127.0.0.1:80:80\n",
        &[(
            "ExposeInvalidFormat",
            "EXPOSE instruction should not define an IP address or host-port mapping, found \
             '127.0.0.1:80:80'",
        )],
    );
}

#[test]
fn ignored_files() {
    let with = |patterns: &str| Request { ignore: Ignore::parse(patterns).unwrap(), ..request() };
    let expected = (
        "CopyIgnoredFile".to_owned(),
        "Attempting to Copy file \"a/b\" that is excluded by .dockerignore".to_owned(),
    );
    let text = "FROM busybox\nCOPY ./a/b /\nCOPY c /\nCOPY . /\n";
    assert_eq!(found_with(text, &with("a")), [expected]);
    assert_eq!(found_with(text, &with("a\n!a/x")), []);
}

#[test]
fn checks_can_be_left_out() {
    check("# check=skip=JSONArgsRecommended\nFROM busybox\nCMD x\n", &[]);
    check("# check=skip=all\nFROM busybox\nCMD x\nMAINTAINER y\n", &[]);
    check("FROM busybox\n# check=skip=JSONArgsRecommended\nCMD x\n", &[]);
    check(
        "# check=experimental=all\n# bb is nothing\nARG a=1\nFROM busybox\n",
        &[(
            "InvalidDefinitionDescription",
            "Comment for ARG should follow the format: `# a <description>`",
        )],
    );
    check("# check=experimental=all\n# a is something\nARG a=1\nFROM busybox\n", &[]);
}

fn own(text: &str) -> Vec<&'static str> {
    let file = Dockerfile::parse(text).unwrap();
    let found = build::check(&file, &request(), &mut Images::default()).unwrap();
    found.iter().filter(|finding| finding.rule.is_own).map(|finding| finding.rule.name).collect()
}

#[test]
fn our_own_checks() {
    assert_eq!(own("FROM busybox\n"), ["UnpinnedBase"]);
    assert_eq!(own("FROM busybox:latest\n"), ["UnpinnedBase"]);
    assert_eq!(own("FROM localhost:5000/busybox:1\nENTRYPOINT x\n"), ["ShellFormEntrypoint"]);
    assert_eq!(
        own("FROM scratch\nCOPY a /srv/a\nRUN chown -R x /srv/a\n"),
        ["OwnershipDoublesLayer"]
    );
    assert_eq!(own("FROM scratch\nCOPY . /srv\nRUN npm ci\n"), ["CopyBeforeInstall"]);
    assert_eq!(own("FROM scratch\nCOPY package.json /srv/\nRUN npm ci\nCOPY . /srv\n"), [""; 0]);
    assert_eq!(
        own("FROM scratch\nCOPY .env id_rsa /srv/\n"),
        ["SecretInContext", "SecretInContext"]
    );
    assert_eq!(own("FROM scratch\nADD a /srv/\n"), ["AddInsteadOfCopy"]);
    assert_eq!(own("FROM scratch\nADD a.tar.gz /srv/\nADD https://x/y /srv/\n"), [""; 0]);
    assert_eq!(own("FROM scratch\nRUN apt-get update && apt-get install -y x\n"), ["AptListsKept"]);
    assert_eq!(own("FROM scratch\nRUN apt-get update && rm -rf /var/lib/apt/lists/*\n"), [""; 0]);
}
