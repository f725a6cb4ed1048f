//! The same Dockerfiles by Docker's classic builder: the same files and the same configuration, where
//! the languages agree.

use testkit::{Dockerd, Sandbox};

use super::write;

const FILES: &str = r#"//- a.txt
a
//- d/b.txt
b
//- d/e/c.txt
c
//- .dockerignore
ignored
//- ignored
x
//- Dockerfile
FROM busybox AS first
ARG V=1
RUN echo "$V" > /v && mkdir -p /x/y && echo 1 > /x/y/z && ln -s y /x/link && chmod 600 /x/y/z
FROM busybox
ENV A=1 B="two words" C=$A
LABEL l="m n"
WORKDIR /work
COPY a.txt .
COPY a.txt d /copied/
COPY --from=first /v /x /from/
COPY --chown=5:6 d/ /owned
ADD a.txt renamed
RUN rm /copied/b.txt && echo "$A $B $C" > env && mkdir empty
USER 5:6
EXPOSE 80
VOLUME /data
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s CMD true
ENTRYPOINT ["sh", "-c"]
CMD ["cat env"]
"#;

#[test]
fn the_classic_builder_agrees() {
    let sandbox = Sandbox::new();
    let docker = Dockerd::start(&sandbox);
    write(&sandbox.work().join("ctx"), FILES);
    let _ = sandbox.shell("$E pull -q busybox && $E save -o busybox.tar busybox").ok();
    let _ = docker.shell("$E load -qi busybox.tar").ok();
    let build = "$E build -q --network none -t built ctx";
    let _ = docker.shell(&format!("DOCKER_BUILDKIT=0 {build}")).ok();
    let _ = sandbox.shell(build).ok();
    let list = "$E run --rm --network none --user 0 --entrypoint sh built -c \
                'cd / && find copied from owned work -exec stat -c \"%n %F %a %u %g\" {} + | sort; \
                 find copied from owned work -type f | sort | xargs sha256sum; readlink from/link'";
    let ours = sandbox.shell(list).ok().to_owned();
    assert_eq!(ours, docker.shell(list).ok());
    assert!(ours.contains("owned/e/c.txt"), "{ours}");
    for field in [
        "Env",
        "Labels",
        "WorkingDir",
        "User",
        "ExposedPorts",
        "Volumes",
        "StopSignal",
        "Entrypoint",
        "Cmd",
        "Healthcheck.Test",
    ] {
        let line = format!("$E image inspect -f '{{{{json .Config.{field}}}}}' built");
        assert_eq!(sandbox.shell(&line).ok(), docker.shell(&line).ok(), "{field}");
    }
}
