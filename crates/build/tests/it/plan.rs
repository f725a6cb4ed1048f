//! Graphs: what a target needs, with what values, in which words.

use build::{
    Chmod, CopySource, Dockerfile, Error, From, Graph, NamedContext, Op, Request, RunMountKind,
    RunOp,
};

use crate::world::{Images, graph, names, request, with_args};

fn plan(text: &str) -> Graph {
    graph(text, &request()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn fails(text: &str, message: &str) -> Error {
    let error = graph(text, &request()).expect_err(text);
    assert!(error.to_string().contains(message), "{text}: {error}");
    error
}

fn run(graph: &Graph, index: usize) -> &RunOp {
    match &graph.steps[index].op {
        Op::Run(run) => run,
        other => panic!("{other:?} is not a command"),
    }
}

fn history(graph: &Graph) -> Vec<&str> {
    graph.outcome.history.iter().map(|entry| entry.created_by.as_str()).collect()
}

#[test]
fn steps_have_names_and_an_order() {
    let graph = plan("FROM busybox\nENV a=b\nWORKDIR /w\nRUN echo $a\nCOPY x $a/\n");
    let expected = [
        "[1/4] FROM docker.io/library/busybox",
        "[2/4] WORKDIR /w",
        "[3/4] RUN echo b",
        "[4/4] COPY x b/",
    ];
    assert_eq!(names(&graph), expected);
    assert_eq!(graph.outcome.step, Some(3));
}

#[test]
fn only_what_the_target_needs_is_there() {
    let text = "FROM busybox AS a\nRUN a\nFROM missing AS b\nRUN b\nFROM busybox AS c\n\
                COPY --from=a /x /x\nRUN c\n";
    let graph = plan(text);
    assert_eq!(
        names(&graph),
        [
            "[c 1/3] FROM docker.io/library/busybox",
            "[a 2/2] RUN a",
            "[c 2/3] COPY --from=a /x /x",
            "[c 3/3] RUN c"
        ]
    );
    let target = Request { target: Some("A".into()), ..request() };
    assert_eq!(crate::world::graph(text, &target).unwrap().steps.len(), 2);
    let target = Request { target: Some("0".into()), ..request() };
    assert_eq!(crate::world::graph(text, &target).unwrap().steps.len(), 2);
    let target = Request { target: Some("cc".into()), ..request() };
    let error = crate::world::graph(text, &target).unwrap_err();
    assert_eq!(error.to_string(), "target stage \"cc\" could not be found (did you mean c?)");
}

#[test]
fn what_is_the_same_is_one_step() {
    let graph = plan(
        "FROM busybox AS a\nRUN x\nFROM busybox AS b\nRUN x\nFROM scratch\nCOPY --from=a / /a\nCOPY --from=b / /b\n",
    );
    assert_eq!(graph.steps.len(), 4);
}

#[test]
fn arguments_have_scopes() {
    let text = "ARG v=1\nFROM busybox:$v\nARG v\nARG w=$v-x\nARG n\nRUN echo $w\n";
    let graph = plan(text);
    let env = &run(&graph, 1).env;
    assert!(env.contains(&"v=1".to_owned()) && env.contains(&"w=1-x".to_owned()));
    assert!(!env.iter().any(|variable| variable.starts_with("n=")));
    assert_eq!(
        history(&graph),
        ["ARG v=1", "ARG w=1-x", "ARG n", "RUN |3 v=1 w=1-x n= /bin/sh -c echo $w # buildkit"]
    );
    let graph = crate::world::graph(text, &with_args(&[("v", "2"), ("n", "")])).unwrap();
    assert!(names(&graph)[0].ends_with("busybox:2"));
    assert!(run(&graph, 1).env.contains(&"n=".to_owned()));
}

#[test]
fn a_global_argument_is_not_in_a_stage_unless_it_says_so() {
    let graph = plan("ARG v=1\nFROM busybox\nRUN echo $v\n");
    assert!(!run(&graph, 1).env.iter().any(|variable| variable.starts_with("v=")));
}

#[test]
fn platforms_are_known() {
    let graph = plan("FROM busybox\nARG TARGETARCH\nARG BUILDPLATFORM\nRUN x\n");
    let env = &run(&graph, 1).env;
    assert!(env.contains(&"TARGETARCH=amd64".to_owned()));
    assert!(env.contains(&"BUILDPLATFORM=linux/amd64".to_owned()));
}

#[test]
fn proxies_are_given_and_leave_no_trace() {
    let graph = graph("FROM busybox\nRUN x\n", &with_args(&[("HTTP_PROXY", "p")])).unwrap();
    let run = run(&graph, 1);
    assert_eq!(run.proxies, ["HTTP_PROXY=p", "http_proxy=p"]);
    assert!(!run.env.iter().any(|variable| variable.contains("PROXY")));
    assert!(!graph.steps[1].definition().values().any(|value| value.contains("=p")));
    assert_eq!(history(&graph), ["RUN /bin/sh -c x # buildkit"]);
}

#[test]
fn the_image_says_what_was_said() {
    let text = "FROM python\nUSER a:b\nEXPOSE 80 53/udp\nVOLUME /v\nSTOPSIGNAL SIGINT\nLABEL x=y\n\
                ENTRYPOINT [\"e\"]\nSHELL [\"/bin/bash\", \"-c\"]\nHEALTHCHECK --interval=90s CMD x\n\
                ONBUILD RUN z\nMAINTAINER me\nENV LANG=D Q=r\n";
    let graph = plan(text);
    let image = &graph.outcome.config;
    let config = &image.config;
    assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("a:b", "/app"));
    assert_eq!(config.env, ["PATH=/usr/bin", "LANG=D", "Q=r"]);
    assert_eq!(config.exposed_ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
    assert!(config.cmd.is_empty(), "an entrypoint resets the base's command");
    assert_eq!(config.on_build, ["RUN z"]);
    assert_eq!(image.author, "me");
    let expected = [
        "USER a:b",
        "EXPOSE [53/udp 80/tcp]",
        "VOLUME [/v]",
        "STOPSIGNAL SIGINT",
        "LABEL x=y",
        "ENTRYPOINT [\"e\"]",
        "SHELL [/bin/bash -c]",
        "HEALTHCHECK {Test:[CMD-SHELL x] Interval:1m30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
        "MAINTAINER me",
        "ENV LANG=D Q=r",
    ];
    assert_eq!(history(&graph), expected);
    assert_eq!(graph.steps.len(), 1, "nothing of that needs a layer");
}

#[test]
fn values_are_those_before_the_instruction() {
    let graph = plan("FROM busybox\nENV a=1\nENV a=2 b=$a\nRUN x\n");
    assert!(run(&graph, 1).env.contains(&"b=1".to_owned()));
}

#[test]
fn a_command_of_the_stage_outlives_an_entrypoint() {
    let graph = plan("FROM python\nCMD x\nENTRYPOINT [\"e\"]\n");
    assert_eq!(graph.outcome.config.config.cmd, ["/bin/sh", "-c", "x"]);
}

#[test]
fn working_directories_are_relative_to_the_last() {
    let graph = plan("FROM busybox\nWORKDIR /a/../b\nWORKDIR c/\nCOPY x .\nCOPY x y\nCOPY x /z/\n");
    assert_eq!(graph.outcome.config.config.working_dir, "/b/c");
    let destinations = graph.steps.iter().filter_map(|step| match &step.op {
        Op::Copy(copy) => Some(copy.destination.as_str()),
        _ => None,
    });
    assert_eq!(destinations.collect::<Vec<_>>(), ["/b/c/", "/b/c/y", "/z/"]);
}

#[test]
fn stages_inherit() {
    let graph = plan("FROM busybox AS a\nENV x=1\nARG y=2\nWORKDIR /w\nFROM a\nRUN r\n");
    let run = run(&graph, 2);
    assert_eq!(run.workdir, "/w");
    assert!(run.env.contains(&"x=1".to_owned()) && run.env.contains(&"y=2".to_owned()));
    assert_eq!(names(&graph)[2], "[stage-1 1/1] RUN r");
}

#[test]
fn triggers_of_a_base_come_first() {
    let graph = plan("FROM trigger\nRUN own\n");
    let expected = [
        "[1/4] FROM docker.io/library/trigger",
        "[2/4] ONBUILD COPY . /src",
        "[3/4] ONBUILD RUN make",
        "[4/4] RUN own",
    ];
    assert_eq!(names(&graph), expected);
    assert!(graph.outcome.config.config.on_build.is_empty());
    let error = fails("FROM bad-trigger\n", "it isn't allowed as an ONBUILD trigger");
    assert_eq!(error.span().unwrap().start, 0);
}

#[test]
fn triggers_of_a_stage_work_in_those_built_on_it() {
    let graph = plan("FROM busybox AS a\nONBUILD RUN t\nFROM a\nRUN r\n");
    assert_eq!(names(&graph)[1..], ["[stage-1 1/2] ONBUILD RUN t", "[stage-1 2/2] RUN r"]);
}

#[test]
fn files_come_from_stages_images_and_contexts() {
    let contexts = [
        ("files".to_owned(), NamedContext::Files),
        ("tool".to_owned(), NamedContext::Image("busybox:1".into())),
    ];
    let request = Request { contexts: contexts.into(), ..request() };
    let text = "FROM busybox AS a\nRUN r\nFROM scratch\nCOPY --from=0 /a /\nCOPY --from=A /a /\n\
                COPY --from=files b /\nCOPY --from=tool c /\nCOPY --from=nginx d /\nCOPY e /\n";
    let graph = graph(text, &request).unwrap();
    let sources: Vec<From> = graph
        .steps
        .iter()
        .filter_map(|step| match &step.op {
            Op::Copy(copy) => match &copy.sources[0] {
                CopySource::Path { from, .. } => Some(from.clone()),
                _ => None,
            },
            _ => None,
        })
        .collect();
    let name = |from: &From| match from {
        From::Step(step) => graph.steps[*step].name.clone(),
        other => format!("{other:?}"),
    };
    let found: Vec<String> = sources.iter().map(name).collect();
    let expected = [
        "[a 2/2] RUN r",
        "[a 2/2] RUN r",
        "Context(Some(\"files\"))",
        "FROM docker.io/library/busybox:1",
        "FROM docker.io/library/nginx",
        "Context(None)",
    ];
    assert_eq!(found, expected);
}

#[test]
fn later_stages_cannot_be_copied_from() {
    let text = "FROM busybox AS a\nCOPY --from=b x y\nFROM busybox AS b\nFROM a\n";
    fails(text, "cannot copy from stage \"b\", it needs to be defined before current stage \"a\"");
    fails("FROM busybox AS a\nCOPY --from=a x y\n", "circular dependency detected on stage: a");
    fails("FROM busybox\nCOPY --from=7 x y\n", "invalid stage index 7");
}

#[test]
fn copies_are_planned() {
    let graph = plan(
        "FROM busybox\nARG f=x\nCOPY --chown=a --chmod=755 --link --exclude=*.o $f ../y /d/\nCOPY --parents a/./b/*.c /d/\nADD --chmod=u+x,g= a.tar /\n",
    );
    let op = |index: usize| match &graph.steps[index].op {
        Op::Copy(copy) => copy.clone(),
        other => panic!("{other:?}"),
    };
    let first = op(1);
    assert_eq!(
        (first.chown.as_deref(), first.chmod, first.link),
        (Some("a"), Some(Chmod::Octal(0o755)), true)
    );
    let path = |source: &CopySource| match source {
        CopySource::Path { path, parents, unpack, .. } => (path.clone(), parents.clone(), *unpack),
        other => panic!("{other:?}"),
    };
    assert_eq!(first.sources.iter().map(|s| path(s).0).collect::<Vec<_>>(), ["/x", "/y"]);
    assert_eq!(path(&op(2).sources[0]), ("/a".into(), Some("b/*.c".into()), false));
    assert_eq!(op(3).chmod, Some(Chmod::Symbolic("u+x,g=".into())));
    assert!(path(&op(3).sources[0]).2);
    assert_eq!(
        history(&graph)[1..],
        [
            "COPY --chown=a --chmod=755 x ../y /d/ # buildkit",
            "COPY --parents a/./b/*.c /d/ # buildkit",
            "ADD --chmod=u+x,g= a.tar / # buildkit"
        ]
    );
    fails("FROM busybox\nCOPY --chmod=999 a b\n", "invalid chmod parameter");
    fails("FROM busybox\nCOPY a b c\n", "the destination must be a directory and end with a /");
    fails("FROM busybox\nCOPY https://x/y /\n", "source can't be a URL for COPY");
    fails("FROM busybox\nADD --checksum=sha256:0 a /\n", "checksum requires HTTP(S)");
}

#[test]
fn urls_have_names() {
    let graph = plan("FROM scratch\nADD https://example.com/a/b.tgz?x=1 https://example.com /d/\n");
    let Op::Copy(copy) = &graph.steps[0].op else { panic!("not a copy") };
    let names = copy.sources.iter().map(|source| match source {
        CopySource::Url { name, .. } => name.as_str(),
        other => panic!("{other:?}"),
    });
    assert_eq!(names.collect::<Vec<_>>(), ["b.tgz", "__unnamed__"]);
}

#[test]
fn heredocs_are_commands_scripts_and_input() {
    let graph = plan(
        "FROM busybox\nRUN <<EOF\na\nb\nEOF\nRUN <<-E\n\t#!/bin/sh\n\tx\n\tE\nRUN cat <<F > y\nz\nF\n",
    );
    assert_eq!(run(&graph, 1).args, ["/bin/sh", "-c", "a\nb\n"]);
    assert_eq!(run(&graph, 2).args, ["/bin/sh", "-c", "/dev/pipes/E"]);
    assert_eq!(run(&graph, 2).script, Some(("/dev/pipes/E".into(), "#!/bin/sh\nx\n".into())));
    assert_eq!(run(&graph, 3).args, ["/bin/sh", "-c", "cat <<F > y\nz\nF"]);
    assert_eq!(names(&graph)[1], "[2/4] RUN <<EOF (a...)");
    let graph = plan("FROM scratch\nARG v=1\nCOPY <<a <<'b' /d/\n$v \"q\"\na\n$v\nb\n");
    let Op::Copy(copy) = &graph.steps[0].op else { panic!("not a copy") };
    let inline = |name: &str, content: &str| CopySource::Inline {
        name: name.into(),
        content: content.into(),
    };
    assert_eq!(copy.sources, [inline("a", "1 \"q\"\n"), inline("b", "$v\n")]);
}

#[test]
fn mounts_are_planned() {
    let text = "FROM busybox AS a\nRUN r\nFROM busybox\nWORKDIR /w\nARG c=/cache\n\
                RUN --mount=type=cache,target=$c,uid=5 --mount=from=a,source=s,target=t \
                --mount=type=secret,id=k --mount=type=secret,id=k,env=K --mount=type=tmpfs,target=/t,size=1k x\n";
    let graph = plan(text);
    let mounts = &run(&graph, graph.steps.len() - 1).mounts;
    let targets: Vec<&str> = mounts.iter().map(|mount| mount.target.as_str()).collect();
    assert_eq!(targets, ["/cache", "/w/t", "/run/secrets/k", "", "/t"]);
    assert!(
        matches!(&mounts[0].kind, RunMountKind::Cache { id, owner: Some((0o755, 5, 0)), .. } if id == "/cache")
    );
    assert!(
        matches!(&mounts[1].kind, RunMountKind::Bind { from: From::Step(_), source } if source == "/s")
    );
    assert!(matches!(&mounts[3].kind, RunMountKind::Secret { env: Some(env), .. } if env == "K"));
    assert!(matches!(mounts[4].kind, RunMountKind::Tmpfs { size: 1024 }));
    fails("FROM busybox\nRUN --mount=type=cache,target=/ x\n", "invalid mount target");
}

#[test]
fn an_empty_base_is_an_error() {
    fails("ARG x\nFROM $x\n", "base name ($x) should not be blank");
    fails("FROM --platform=$PLATFRM busybox\n", "empty platform value from expression $PLATFRM");
    fails("FROM --platform=linux busybox\n", "failed to parse platform linux");
}

#[test]
fn images_are_asked_for_once_they_are_needed() {
    let mut images = Images::default();
    let file = Dockerfile::parse(
        "FROM missing AS a\nFROM busybox\nCOPY --from=nginx x y\nCOPY --from=nginx y z\n",
    )
    .unwrap();
    build::plan(&file, &request(), &mut images).unwrap();
    assert_eq!(images.asked, ["busybox", "nginx"]);
}

#[test]
fn the_number_of_a_step_is_no_part_of_what_it_is() {
    let one = plan("FROM busybox AS a\nRUN r\nFROM scratch\nCOPY --from=a x y\n");
    let two =
        plan("FROM busybox AS a\nRUN r\nFROM nginx AS b\nRUN s\nFROM scratch\nCOPY --from=b x y\n");
    let last = |graph: &Graph| graph.steps.last().unwrap().definition();
    assert_eq!(last(&one), last(&two));
}
