# Each line is a case: both engines must print the same, exit alike, and agree on whether there is
# anything to complain about. Lines of one paragraph share names and files, and paragraphs do not.
# `differs REASON` before a line says that the engines are known not to agree, with a row in
# docs/compatibility.md; `command differs REASON`, that our command line does not, while Docker's
# client sees no difference.

$E run --rm --network none seen true
$E run --rm --network none seen false
$E run --rm --network none seen sh -c 'echo out; echo err >&2; exit 42'
$E run --rm --network none seen sh -c 'echo out; echo err >&2; exit 42' 2>&1 >/dev/null
$E run --rm --network none seen no-such-program
$E run --rm --network none seen /no/such/program
$E run --rm --network none seen /etc
$E run --rm --network none seen /etc/passwd
differs An empty program name is refused before the container starts.
$E run --rm --network none seen ''
$E run --rm --network none --init seen sh -c 'kill -TERM $$'
$E run --rm --network none --init seen sh -c 'kill -KILL $$'
$E run --rm --network none --no-such-flag seen true
command differs Wrong usage exits with 2, and with 125 where a container would run.
$E run --rm --network none
$E run --rm --network none UPPER/case true
$E run --rm --network none --name .odd seen true
$E run --rm --network none --name a seen true
$E run --rm --network no-such-network seen true
echo text | $E run --rm -i --network none seen cat
echo text | $E run --rm --network none seen cat

$E run --rm --network none -h h -e A=1 -e A=2 -e B -e C= -e 'D=a b' seen env | sort
B=2 $E run --rm --network none -h h -e B -e HOME=/x -e PATH=/bin seen env | sort
printf '# comment\n\nA=1 2\nB\nQ="x"\n  L=l\nE=a=b\n' >env-file; B=b $E run --rm --network none -h h --env-file env-file -e A=9 seen env
printf 'A B=1\n' >env-bad; $E run --rm --network none --env-file env-bad seen env
printf '=1\n' >env-bad; $E run --rm --network none --env-file env-bad seen env
$E run --rm --network none --env-file no-such-file seen env
$E run --rm --network none -e =1 seen env
$E run --rm --network none -h h with-config env

$E run --rm --network none -w /tmp seen pwd
$E run --rm --network none -w /new/dir seen sh -c 'pwd; stat -c "%a %u %g %F" . ..'
$E run --rm --network none -u 1000 -w /new/dir seen sh -c 'pwd; stat -c "%a %u %g %F" . ..'
$E run --rm --network none -w relative seen pwd
$E run --rm --network none -w /etc/passwd seen pwd
$E run --rm --network none -w /tmp/../etc/ seen pwd
$E run --network none --name workdir -w /new/dir seen true; $E container diff workdir; $E rm workdir
$E run --rm --network none with-config pwd

$E run --rm --network none seen sh -c 'id; echo $HOME'
$E run --rm --network none -u nobody seen sh -c 'id; echo $HOME'
$E run --rm --network none -u www-data seen sh -c 'id; echo $HOME'
$E run --rm --network none -u 1000 seen sh -c 'id; echo $HOME'
$E run --rm --network none -u 33 seen sh -c 'id; echo $HOME'
$E run --rm --network none -u 1000:1000 seen sh -c 'id; echo $HOME'
$E run --rm --network none -u 0:33 seen sh -c 'id; echo $HOME'
$E run --rm --network none -u root:staff seen sh -c 'id; echo $HOME'
$E run --rm --network none -u nobody:10 seen sh -c 'id; echo $HOME'
$E run --rm --network none -u nosuch seen id
$E run --rm --network none -u nobody:nosuch seen id
$E run --rm --network none -u -1 seen id
$E run --rm --network none -u 4294967295 seen id
$E run --rm --network none -u 1000:1000 --group-add 10 --group-add staff seen id
$E run --rm --network none --group-add nosuch seen id
$E run --rm --network none with-config id

$E run --rm --network none --entrypoint echo seen one two
$E run --rm --network none --entrypoint /bin/sh seen -c 'echo $0'
$E run --rm --network none --entrypoint '' seen echo one
$E run --rm --network none with-config
$E run --rm --network none with-config replaced
$E run --rm --network none --entrypoint '' with-config
$E run --rm --network none --entrypoint '' with-config echo one
$E run --rm --network none --entrypoint id with-config

differs `/etc/hosts` writes `fe00::` and `ff00::`, as Docker does since version 25.
$E run --rm --network none --hostname h.example.com seen sh -c 'hostname; cat /etc/hostname; cat /etc/hosts; hostname -f'
$E run --rm --network none --hostname h --domainname example.com seen sh -c 'hostname; cat /etc/hostname; cat /proc/sys/kernel/domainname'
$E run --rm --network none --hostname -bad- seen hostname
$E run --rm --network none -e -x=1 -l --rm --entrypoint echo seen -e y
$E run --rm=true -i=false --network=none -w /tmp -w /etc seen pwd
$E run --rm --network host --network=none seen true
$E run --rm=maybe --network none seen true
$E run --rm=false --network none --name kept seen true; $E rm --force=true kept; $E ps -a=true -f name=kept -q
$E run --rm --network none seen sh -c 'test $(hostname) = $HOSTNAME && hostname | wc -c'
differs `/etc/hosts` writes `fe00::` and `ff00::`, as Docker does since version 25.
$E run --rm --network none --add-host one:1.2.3.4 seen cat /etc/hosts
$E run --rm --network none --add-host one:1.2.3.4 --add-host two:::1 seen grep -e one -e two /etc/hosts
$E run --rm --network none --add-host one seen true
$E run --rm --network none --dns 10.0.0.1 --dns 10.0.0.2 --dns-search a.b --dns-search c --dns-option timeout:1 seen grep -v '^#' /etc/resolv.conf
$E run --rm --network none --dns 10.0.0.1 --dns-search . seen grep -v '^#' /etc/resolv.conf
$E run --rm --network none --dns nowhere seen true
$E run --rm --network none -p 80:x seen true
$E run --rm --network none -p 80-82:90-91 seen true
$E run --rm --network none -p 80/icmp seen true
$E run --rm --network none --expose 80:81 seen true
$E create --network none --name exposed --expose 8000-8001 -p 127.0.0.1:8080:80 -p 53:53/udp seen true >/dev/null; $E inspect -f '{{json .Config.ExposedPorts}} {{json .HostConfig.PortBindings}}' exposed; $E port exposed; $E port exposed 80; $E ps -a -f name=exposed --format '{{.Ports}}'; $E rm exposed
$E run --rm --network none --ip 10.0.0.5 seen true

$E network ls --format '{{.Name}} {{.Driver}} {{.Scope}}' -f name=none -f name=host
$E network ls -f type=sometimes
$E network create --subnet 10.99.0.0/24 --gateway 10.99.0.9 --ip-range 10.99.0.128/25 --label a=b --internal --attachable parity >/dev/null; $E network inspect -f '{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}} {{.Attachable}} {{.EnableIPv6}} {{json .IPAM.Config}} {{json .Labels}} {{json .Options}} {{json .Containers}}' parity; $E network ls -f label=a --format '{{.Name}} {{.Internal}} {{.Labels}}'; $E network create parity; $E network create --subnet 10.99.0.0/25 other; $E network rm parity; $E network rm parity
$E network create --ipv6 --subnet 10.98.0.0/24 --gateway 10.98.0.1 --subnet fd00:98::/64 --gateway fd00:98::9 --ip-range fd00:98::8:0/112 --label d=e dual >/dev/null; $E network inspect -f '{{.EnableIPv6}} {{json .IPAM.Config}}' dual; $E network ls -f label=d --format '{{.Name}} {{.IPv6}}'; $E run --rm --network dual --ip6 fd00:98::77 -h h seen sh -c 'ip -o -6 addr show eth0 scope global | tr -s " " | cut -d" " -f2-6; ip -6 route | grep default | tr -s " " | cut -d" " -f1-5; tail -n2 /etc/hosts'; $E run -d --name six --network dual seen sleep 1000 >/dev/null; $E inspect -f '{{with .NetworkSettings.Networks.dual}}{{.GlobalIPv6Address}} {{.GlobalIPv6PrefixLen}} {{.IPv6Gateway}} {{json .IPAMConfig}}{{end}}' six; $E network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}} {{.IPv6Address}}{{end}}' dual; $E rm -f six; $E network rm dual
$E network create --subnet 10.97.0.0/24 --gateway 10.97.0.1 --aux-address a=10.97.0.2 --aux-address b=10.97.0.3 aux >/dev/null; $E network inspect -f '{{json .IPAM.Config}}' aux; $E run --rm --network aux seen sh -c 'ip -o -4 addr show eth0 | tr -s " " | cut -d" " -f2-4'; $E run --rm --network aux --ip 10.97.0.3 seen true; $E network rm aux
$E network create -d macvlan -o macvlan_mode=odd odd
$E network create -d macvlan -o parent=lo odd
$E network create --aux-address a=10.0.0.2 odd
$E network create --subnet 10.95.0.0/24 --gateway 10.94.0.1 odd
$E network create --ipv6 --subnet fd00:98::/129 odd
$E network rm host
$E network create host
$E network create --gateway 10.0.0.1 gateway
$E network create --subnet 10.0.0.0/33 subnet
$E network create -d nothing odd
$E network inspect nothing
$E network connect nothing nobody
$E run --rm --network none seen sh -c 'ls /sys/class/net; ip -o addr | grep -v inet6'
$E run --rm --network none seen sh -c 'cat /etc/resolv.conf | wc -c; stat -c "%a %u %F" /etc/resolv.conf /etc/hosts /etc/hostname'

$E run --rm --network none --read-only seen touch /x
$E run --rm --network none --read-only seen sh -c 'touch /dev/shm/x /dev/x; echo $?'
$E run --rm --network none --read-only --tmpfs /t seen sh -c 'touch /t/x && grep " /t " /proc/mounts'
$E run --rm --network none --tmpfs /t:size=1m,mode=700,uid=3 seen sh -c 'grep " /t " /proc/mounts; stat -c "%a %u" /t'
$E run --rm --network none --tmpfs /seed seen ls -A /seed
$E run --rm --network none --tmpfs /t:nonsense seen true
$E run --rm --network none --tmpfs relative seen true
$E run --rm --network none --shm-size 32m seen grep shm /proc/mounts
$E run --rm --network none seen grep shm /proc/mounts
$E run --rm --network none --shm-size lots seen true

$E run --rm --network none -v vol-a:/seed seen sh -c 'ls -A /seed; stat -c "%a %u %g" /seed /seed/*; echo more >/seed/more'
$E run --rm --network none -v vol-a:/seed seen sh -c 'ls -A /seed; cat /seed/more'
$E run --rm --network none -v vol-a:/seed:ro seen sh -c 'ls -A /seed; echo >/seed/x'
$E run --rm --network none -v vol-b:/seed:nocopy seen ls -A /seed
$E run --rm --network none -v vol-c:/new/place seen sh -c 'stat -c "%a %u" /new /new/place'
$E run --rm --network none -v /seed seen sh -c 'ls -A /seed; grep -c " /seed " /proc/mounts'
$E run --rm --network none -v vol-d:/seed -u 1000 seen sh -c 'stat -c "%a %u %g" /seed; touch /seed/x'
mkdir -p bind; echo in >bind/file; $E run --rm --network none -v $PWD/bind:/b seen sh -c 'cat /b/file; echo out >>/b/file'; cat bind/file
$E run --rm --network none -v $PWD/bind:/b:ro seen sh -c 'echo >/b/x'
$E run --rm --network none -v $PWD/bind/file:/etc/passwd seen cat /etc/passwd
rm -rf made; $E run --rm --network none -v $PWD/made:/b seen stat -c '%a %u %F' /b; ls -d made
$E run --rm --network none -v vol-e:relative seen true
$E run --rm --network none -v vol-e:/ seen true
$E run --rm --network none -v some/path:/x seen true
$E run --rm --network none -v vol-e:/x:nonsense seen true
$E run --rm --network none -v vol-e:/x -v vol-f:/x seen true
$E run --rm --network none --mount type=bind,src=$PWD/no-such,dst=/x seen true
$E run --rm --network none --mount type=bind,src=$PWD/bind,dst=/x,readonly seen sh -c 'cat /x/file; echo >/x/y'
$E run --rm --network none --mount type=volume,src=vol-a,dst=/v seen ls -A /v
$E run --rm --network none --mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=0700 seen grep ' /t ' /proc/mounts
$E run --rm --network none --mount type=nonsense,dst=/x seen true
$E run --rm --network none --mount type=volume seen true
$E run --network none --name mounts -v vol-a:/seed -v $PWD/bind:/b --tmpfs /t -v /anonymous seen true; $E container diff mounts | sort
differs The mode of an anonymous volume is `z`, like that of a named one.
$E inspect -f '{{range .Mounts}}{{.Type}} {{.Destination}} {{.Mode}} {{.RW}} {{.Propagation}};{{end}}' mounts | tr ';' '\n' | sort; $E rm -v mounts

$E run --rm --network none --ulimit nofile=100:200 seen sh -c 'ulimit -n; ulimit -Hn'
$E run --rm --network none --ulimit core=0 --ulimit nofile=64 seen sh -c 'ulimit -c; ulimit -n; ulimit -Hn'
$E run --rm --network none seen sh -c 'cat /proc/self/limits'
$E run --rm --network none --ulimit nofile=x seen true
$E run --rm --network none --ulimit nosuch=1 seen true
$E run --rm --network none --ulimit nofile=200:100 seen true
$E run --rm --network none -m 64m seen sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes'
$E run --rm --network none -m 64m --memory-swap 96m --memory-reservation 32m seen sh -c 'cd /sys/fs/cgroup/memory; cat memory.limit_in_bytes memory.memsw.limit_in_bytes memory.soft_limit_in_bytes'
$E run --rm --network none -m 64m --memory-swap -1 seen cat /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes
$E run --rm --network none -m 1k seen true
$E run --rm --network none -m lots seen true
$E run --rm --network none --memory-swap 64m seen true
$E run --rm --network none --cpus 0.5 seen sh -c 'cd /sys/fs/cgroup/cpu; cat cpu.cfs_quota_us cpu.cfs_period_us'
$E run --rm --network none -c 512 --cpu-period 50000 --cpu-quota 20000 seen sh -c 'cd /sys/fs/cgroup/cpu; cat cpu.shares cpu.cfs_quota_us cpu.cfs_period_us'
$E run --rm --network none --cpus many seen true
$E run --rm --network none --cpus 1000 seen true
$E run --rm --network none --cpuset-cpus 0 seen cat /sys/fs/cgroup/cpuset/cpuset.cpus
$E run --rm --network none --cpuset-cpus 900 seen true
$E run --rm --network none --pids-limit 20 seen cat /sys/fs/cgroup/pids/pids.max
$E run --rm --network none --pids-limit -1 seen cat /sys/fs/cgroup/pids/pids.max
$E run --rm --network none seen cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/memory/memory.limit_in_bytes
$E run --rm --network none --oom-score-adj 500 seen cat /proc/self/oom_score_adj
$E run --rm --network none seen cat /proc/self/oom_score_adj
differs The TUN device is not allowed by default.
$E run --rm --network none seen cat /sys/fs/cgroup/devices/devices.list

$E run --rm --network none seen grep -E 'Cap|NoNewPrivs|^Seccomp:' /proc/self/status
$E run --rm --network none -u 1000 seen grep Cap /proc/self/status
$E run --rm --network none -u 1000 --cap-add NET_ADMIN seen grep Cap /proc/self/status
$E run --rm --network none --cap-drop ALL seen grep Cap /proc/self/status
$E run --rm --network none --cap-drop ALL --cap-add net_admin --cap-add CAP_CHOWN seen grep Cap /proc/self/status
$E run --rm --network none --cap-drop chown seen grep Cap /proc/self/status
$E run --rm --network none --cap-add NO_SUCH seen true
$E run --rm --network none seen sh -c 'mount -t tmpfs t /tmp; echo $?'
$E run --rm --network none --security-opt no-new-privileges seen grep NoNewPrivs /proc/self/status
$E run --rm --network none --security-opt no-new-privileges:false seen grep NoNewPrivs /proc/self/status
$E run --rm --network none --security-opt seccomp=unconfined seen grep ^Seccomp: /proc/self/status
$E run --rm --network none --security-opt seccomp=no-such-file seen true
$E run --rm --network none --security-opt nonsense seen true
$E run --rm --network none --security-opt apparmor=unconfined seen true
$E run --rm --network none --device /dev/zero:/dev/x seen sh -c 'stat -c "%t %T %a %F" /dev/x; head -c1 /dev/x | wc -c'
$E run --rm --network none --device /dev/zero:/dev/x:r seen sh -c 'echo >/dev/x; echo $?'
$E run --rm --network none --device /dev/zero:/dev/x:q seen true
$E run --rm --network none --sysctl net.ipv4.ip_forward=1 seen cat /proc/sys/net/ipv4/ip_forward
$E run --rm --network none --sysctl kernel.msgmax=1000 seen cat /proc/sys/kernel/msgmax
$E run --rm --network none --sysctl kernel.panic=1 seen true
$E run --rm --network none seen cat /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start

differs Mounts come in another order, masks are bind mounts of another file system, and `/proc/interrupts` is masked, as in newer Docker.
$E run --rm --network none seen sh -c 'cut -d" " -f2,3 /proc/mounts'
differs There is no `/.dockerenv`, and `/dev/core` is always there.
$E run --rm --network none seen sh -c 'ls -A /; ls -A /dev; stat -c "%n %a %u %g %t %T" /dev/*'
$E run --rm --network none seen sh -c 'head -c1 /proc/kcore /proc/keys /proc/timer_list; ls -A /sys/firmware /proc/acpi /proc/scsi; echo 1 >/proc/sys/kernel/panic'
$E run --rm --network none seen sh -c 'cat /proc/self/cgroup | cut -d: -f2 | sort; ps -o pid,args'
$E run --rm --network none seen sh -c 'ls -l /proc/self/fd | wc -l; cat /proc/1/comm; umask'
$E run --rm --network none --init seen sh -c 'test $$ -ne 1; echo $?'

$E run --network none --name labels -l one=1 -l two -l x=a=b seen true
$E inspect -f '{{json .Config.Labels}}' labels
$E ps -a -f label=one --format '{{.Names}} {{.Labels}} {{.Label "one"}}'
$E ps -a -f label=one=2 -q
$E ps -a -f label=x=a=b --format '{{.Names}}'
printf 'from=file\n# no\nalone\n' >labels-file; $E run --rm --network none --label-file labels-file -l one --name labels2 seen true
$E rm labels labels2

rm -f cid; $E run --network none --cidfile cid --name cidfile seen true; wc -c cid; test $(cat cid) = $($E inspect -f '{{.Id}}' cidfile); echo $?
$E run --network none --cidfile cid seen true
$E rm $(cat cid) | wc -c
$E run --rm --network none --name gone seen true; $E ps -aq -f name=gone
$E run --rm --network none --name gone seen false; $E inspect gone

$E run --network none --name listed-1 -l ps seen true
$E run --network none --name listed-2 -l ps seen sh -c 'exit 3'
$E run -d --network none --name listed-3 -l ps -e A=b seen sleep 1000
$E create --network none --name listed-4 -l ps seen echo a very long command line that is cut
$E ps -a -f label=ps
$E ps -a --no-trunc -f label=ps --format '{{.ID}} {{.Command}}'
$E ps -f label=ps --format 'table {{.Names}}\t{{.Image}}\t{{.State}}'
$E ps -a -f label=ps --format '{{.Names}}|{{.Image}}|{{.Command}}|{{.State}}|{{.Ports}}|{{.Networks}}|{{.Mounts}}|{{.LocalVolumes}}'
$E ps -a -f label=ps --format '{{.Names}} {{.Status}}'
$E ps -aq -f label=ps
$E ps -q -f label=ps --no-trunc
$E ps -a -f label=ps -f status=exited --format '{{.Names}}'
$E ps -a -f label=ps -f status=created --format '{{.Names}}'
$E ps -a -f label=ps -f status=running -f status=created --format '{{.Names}}'
$E ps -a -f label=ps -f exited=3 --format '{{.Names}}'
$E ps -a -f label=ps -f name=listed-1 --format '{{.Names}}'
$E ps -a -f label=ps -f name='^/listed-[12]$' --format '{{.Names}}'
$E ps -a -f label=ps -f ancestor=seen --format '{{.Names}}'
$E ps -a -f label=ps -f before=listed-3 --format '{{.Names}}'
$E ps -a -f label=ps -f since=listed-2 --format '{{.Names}}'
$E ps -a -f label=ps -f before=no-such-container
$E ps -a -f label=ps -f name=d-3 -f name='^listed-(1|4)$' --format '{{.Names}}'
$E ps -a -f label=ps -f before=listed-4 -f since=listed-1 --format '{{.Names}}'
$E ps -a -f status=nonsense
$E ps -a -f nonsense=1
command differs A malformed filter exits with 1.
$E ps -a -f nonsense
$E ps -a -f label=ps --format '{{.NoSuch}}'
$E ps -a -f label=ps --format '{{'
$E ps -a -f label=ps -n 2 --format '{{.Names}}'
command differs Wrong usage exits with 2, and with 125 where a container would run.
$E ps extra
$E ps -a -f label=ps --format '{{upper .Names}} {{len .ID}} {{json .Image}} {{truncate .Names 3}}'
$E inspect -f '{{.Name}} {{.State.Status}} {{.State.Running}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.State.Error}} {{.RestartCount}} {{.Driver}} {{.Platform}}' listed-1 listed-2 listed-3 listed-4
differs Empty fields of `Config` are left out of `inspect`, or are empty lists instead of null.
$E inspect -f '{{.Config.Image}} {{.Config.Cmd}} {{json .Config.Entrypoint}} {{.Config.Env}} {{.Config.User}} {{.Config.WorkingDir}} {{.Config.Tty}} {{.Config.OpenStdin}} {{.Config.AttachStdout}} {{json .Config.Volumes}} {{json .Config.StopSignal}}' listed-1 listed-3 listed-4
differs Empty fields of `Config` are left out of `inspect`, or are empty lists instead of null.
$E inspect -f '{{.HostConfig.NetworkMode}} {{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{.HostConfig.Privileged}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.AutoRemove}} {{json .HostConfig.CapAdd}} {{json .HostConfig.Binds}} {{.HostConfig.RestartPolicy.Name}} {{.HostConfig.ShmSize}} {{.HostConfig.LogConfig.Type}}' listed-3
$E inspect -f '{{.Path}} {{.Args}} {{.Image}} {{json .Mounts}} {{json .NetworkSettings.Ports}} {{len .Id}}' listed-3 listed-4
$E inspect -f '{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{$v.IPAddress}}{{end}}' listed-3
command differs A failing `inspect` prints nothing on standard output, and exits with 1.
$E inspect -f '{{.NoSuch}}' listed-3
command differs A failing `inspect` prints nothing on standard output, and exits with 1.
$E inspect -f '{{' listed-3
$E inspect no-such-object
$E inspect -f '{{.Name}}' listed-3 no-such-object listed-1
command differs A failing `inspect` prints nothing on standard output, and exits with 1.
$E container inspect -f '{{.Name}}' seen
$E image inspect -f '{{.Os}}/{{.Architecture}} {{.Config.Cmd}} {{len .RootFS.Layers}} {{.Created}} {{range .RepoTags}}{{println .}}{{end}}' seen | grep -e ^linux -e '^seen:latest$'
command differs A failing `inspect` prints nothing on standard output, and exits with 1.
$E inspect --type image -f '{{.Id}}' listed-3
$E rm listed-3
command differs `rm -f` does not complain about what does not exist.
$E rm -f listed-1 listed-2 listed-3 listed-4 no-such-container
$E rm no-such-container

$E run --network none --name logged seen sh -c 'echo one; echo two >&2; echo three; printf four'
$E logs logged
$E logs logged 2>&1 >/dev/null
# Nothing orders what comes through two pipes, so this one writes to one.
$E run --network none --name tailed seen sh -c 'echo one; echo two; echo three; printf four'
$E logs --tail 2 tailed
$E logs --tail 0 tailed
$E logs --tail all tailed
$E logs --tail nonsense tailed
$E logs -t logged
$E logs --since 1h logged 2>/dev/null
$E logs --since 2030-01-01 logged
$E logs --until 2020-01-01T00:00:00Z logged
$E logs --since nonsense logged
$E logs -f logged 2>/dev/null
$E logs no-such-container
command differs Wrong usage exits with 2, and with 125 where a container would run.
$E logs
$E rm logged tailed

$E run -d --network none --name execed -e A=1 -w /tmp -u 1000 seen sleep 1000 | wc -c
$E exec execed true
$E exec execed sh -c 'exit 7'
differs What fails before a program runs is said on standard error; Docker 20.10 has its `exec` say it on standard output, with 126.
$E exec execed no-such-program
differs What fails before a program runs is said on standard error; Docker 20.10 has its `exec` say it on standard output, with 126.
$E exec execed /etc
$E exec execed sh -c 'kill -KILL $$'
$E exec execed sh -c 'id; pwd; echo $A $HOME'
$E exec -u 0 -w / -e A=2 -e B=3 execed sh -c 'id; pwd; echo $A $B $HOME'
$E exec -u nobody execed sh -c 'id; echo $HOME'
differs What fails before a program runs is said on standard error; Docker 20.10 has its `exec` say it on standard output, with 126.
$E exec -u nosuch execed id
differs What fails before a program runs is said on standard error; Docker 20.10 has its `exec` say it on standard output, with 126.
$E exec -w /no-such execed pwd
differs What fails before a program runs is said on standard error; Docker 20.10 has its `exec` say it on standard output, with 126.
$E exec -w relative execed pwd
echo text | $E exec -i execed cat
echo text | $E exec execed cat
$E exec execed grep -E 'Cap|NoNewPrivs|^Seccomp:' /proc/self/status
$E exec -d execed touch /tmp/detached
command differs Wrong usage exits with 2, and with 125 where a container would run.
$E exec execed
$E exec no-such-container true
$E rm -f execed
$E exec execed true

$E run -d --network none --name stopped seen sh -c 'trap "exit 5" TERM; while :; do sleep 0.05; done' | wc -c; until $E exec stopped grep -q '^SigCgt:.*[4-7c-f]...$' /proc/1/status; do :; done
$E stop stopped
$E wait stopped
$E stop stopped
$E kill stopped
$E exec stopped true
$E inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Running}} {{.State.Pid}}' stopped
$E start stopped
$E start stopped; $E kill stopped; $E wait stopped
$E start stopped; $E kill -s NOSUCH stopped; $E kill -s 9 stopped; $E wait stopped
$E start -a stopped & until $E inspect -f '{{.State.Running}}' stopped | grep -q true; do :; done; until $E exec stopped grep -q '^SigCgt:.*[4-7c-f]...$' /proc/1/status; do :; done; $E stop stopped; wait $!; echo $?
$E rm stopped
$E stop stopped
$E wait stopped
$E kill stopped
$E start stopped
$E run -d --network none --name signalled --stop-signal USR1 seen sh -c 'trap "exit 6" USR1; while :; do sleep 0.05; done' | wc -c; until $E exec signalled grep -q '^SigCgt:.*[2367abef]..$' /proc/1/status; do :; done
$E inspect -f '{{.Config.StopSignal}}' signalled; $E stop signalled; $E wait signalled; $E rm signalled
$E run --rm --network none --stop-signal NOSUCH seen true
command differs `stop` and `restart` say so when process 1 does not hear the signal.
$E run -d --network none --name slow seen sleep 1000 | wc -c; $E stop -t 1 slow; $E wait slow; $E rm slow

$E run -d --network none --name frozen seen sleep 1000 | wc -c
$E pause frozen
$E pause frozen
$E inspect -f '{{.State.Status}} {{.State.Running}} {{.State.Paused}} {{.State.Restarting}}' frozen
$E ps --format '{{.Names}} {{.State}}' -f status=paused -f name=frozen
$E exec frozen true
$E unpause frozen
$E unpause frozen
$E pause no-such-container
$E rm -f frozen
$E pause frozen

$E create --network none --name before seen true | wc -c
$E rename before after
$E rename before again
$E rename after after
$E rename after no/such
$E create --network none --name taken seen true | wc -c
$E rename after taken
$E inspect -f '{{.Name}}' after
$E rename after before; $E ps -a --format '{{.Names}}' -f name=before -f name=after
$E rm before taken

$E create --network none --name updated -m 64m seen true | wc -c
$E update -m 32m --memory-swap 64m updated
$E inspect -f '{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}' updated
$E update -m 128m updated
$E update --cpus 0.5 --cpuset-cpus 0 --pids-limit 20 updated
$E inspect -f '{{.HostConfig.NanoCpus}} {{.HostConfig.CpusetCpus}} {{.HostConfig.PidsLimit}}' updated
$E update --cpu-quota 10000 updated
$E update --restart on-failure:3 updated
$E inspect -f '{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}' updated
$E update --restart nonsense updated
$E update --restart always:3 updated
$E update --restart on-failure:x updated
$E update updated
$E update -m 32m no-such-container
$E rm updated

$E run -d --network none --name restarted --restart on-failure:2 seen sh -c 'echo run; exit 3' | wc -c
until $E inspect -f '{{.State.Status}}' restarted | grep -q exited; do :; done; $E inspect -f '{{.RestartCount}} {{.State.ExitCode}} {{.State.Restarting}}' restarted; $E logs restarted
$E rm restarted
$E run -d --network none --name ended --restart on-failure seen true | wc -c; $E wait ended; $E inspect -f '{{.RestartCount}} {{.State.Status}}' ended; $E rm ended
$E run -d --network none --name again --restart always seen sh -c 'sleep 0.1; exit 5' | wc -c
until [ $($E inspect -f '{{.RestartCount}}' again) -ge 2 ]; do :; done; $E stop again 2>/dev/null; $E inspect -f '{{.State.Status}} {{.State.Restarting}}' again
$E start again; $E rm -f again
$E run --rm --restart always --network none seen true
$E run --rm --restart no --network none seen true
$E run --restart nonsense --network none seen true
$E run --restart :3 --network none seen true
$E run --restart on-failure:-1 --network none seen true
$E run --restart unless-stopped:2 --network none seen true
$E run -d --network none --name twice seen sh -c 'echo run; exec sleep 1000' | wc -c; until $E logs twice | grep -q run; do :; done
$E restart -t 0 twice; until [ $($E logs twice | wc -l) = 2 ]; do :; done; $E logs twice; $E inspect -f '{{.State.Status}}' twice
$E stop -t 0 twice; $E restart twice; $E inspect -f '{{.State.Status}} {{.RestartCount}}' twice
$E restart no-such-container
$E rm -f twice
$E run -d --rm --network none --name kept seen sleep 1000 | wc -c
$E restart -t 0 kept; $E inspect -f '{{.State.Status}}' kept; $E rm -f kept >/dev/null 2>&1; :

$E run -d --network none --name checked --health-cmd 'test -e /tmp/ok' --health-interval 100ms --health-retries 2 seen sleep 1000 | wc -c
until $E inspect -f '{{.State.Health.Status}}' checked | grep -q unhealthy; do :; done; $E ps --format '{{.Names}}' -f health=unhealthy
$E inspect -f '{{json .Config.Healthcheck}}' checked
$E exec checked touch /tmp/ok; until $E inspect -f '{{.State.Health.Status}}' checked | grep -qx healthy; do :; done; $E inspect -f '{{.State.Health.FailingStreak}}' checked
$E inspect -f '{{range .State.Health.Log}}{{if eq .ExitCode 0}}{{.ExitCode}}{{.Output}}{{end}}{{end}}' checked | head -c 1
$E rm -f checked
$E ps -f health=nonsense
$E run --rm --network none --no-healthcheck --health-cmd true seen true
$E run --rm --network none --health-interval -1s seen true
$E run --rm --network none --health-interval 1us seen true
$E run --rm --network none --health-retries -1 seen true
$E run -d --network none --name unchecked --health-cmd true --no-healthcheck=false seen sleep 1000 | wc -c; $E rm -f unchecked
$E create --network none --name off --no-healthcheck seen true | wc -c; $E inspect -f '{{json .Config.Healthcheck}} {{if .State.Health}}yes{{end}}' off; $E rm off

$E run -d --network none --name topped seen sleep 1000 | wc -c
$E top topped | head -1
$E top topped | tail -n +2 | wc -l
$E top topped -o pid,args | tail -n +2 | sed 's/^[0-9]* *//'
$E top topped -o args
$E top topped --no-such-option
$E top no-such-container
$E stats --no-stream --format '{{.Name}} {{.PIDs}} {{.NetIO}}' topped
$E stats --no-stream no-such-container
$E rm -f topped
$E top topped

$E images seen
$E images --format '{{.Repository}}:{{.Tag}} {{.ID}} {{.Digest}} {{.CreatedSince}}' with-config
$E images -q --no-trunc seen
$E images no-such-image
$E images --format '{{.Repository}}' -f reference='se*'
$E images -f nonsense=1
$E tag seen tagged:1
$E tag seen registry.example.com/tagged:2
$E tag no-such-image x
$E tag seen UPPER
$E images --format '{{.Repository}}:{{.Tag}} {{.ID}}' -f reference='*/tagged' -f reference=tagged | sort
$E rmi tagged:1
$E rmi tagged:1
$E rmi registry.example.com/tagged:2
$E rmi no-such-image
differs The size of a layer does not count what symbolic links point to.
$E history seen
$E history --format '{{.ID}}|{{.CreatedBy}}|{{.Comment}}' --no-trunc seen
$E history -q seen
$E history --format '{{.CreatedAt}}' seen
$E history no-such-image
$E create --network none --name keeps removable true | wc -c; $E rmi removable
$E rm keeps; $E rmi removable
$E image inspect no-such-image
$E load -i no-such-file
echo nonsense >bad.tar; $E load -i bad.tar

$E create --network none --name once seen echo created | wc -c
$E create --network none --name once seen true
$E run --network none --name once seen true
$E start once
$E wait once
$E logs once
$E start -a once
$E container diff once
$E container diff no-such-container
$E rm once

$E tag seen 127.0.0.1:5001/$(basename $E)/out-a; $E push 127.0.0.1:5001/$(basename $E)/out-a | sed "s,$(basename $E)/,,; s/ size: .*//; /Waiting/d" | sort
$E push 127.0.0.1:5001/$(basename $E)/out-a:latest | sed "s,$(basename $E)/,,; s/ size: .*//; /Waiting/d" | sort
$E push -q 127.0.0.1:5001/$(basename $E)/out-a | sed "s,$(basename $E)/,,"
$E tag seen 127.0.0.1:5001/$(basename $E)/out-b:1; $E tag seen 127.0.0.1:5001/$(basename $E)/out-b:2; $E push -qa 127.0.0.1:5001/$(basename $E)/out-b | sed "s,$(basename $E)/,,"
$E push -a 127.0.0.1:5001/$(basename $E)/out-b:1
$E push 127.0.0.1:5001/out-absent
$E push 127.0.0.1:5001/out-absent:1
$E push 127.0.0.1:5001/$(basename $E)/out-a:absent | sed "s,$(basename $E)/,,"
$E push 127.0.0.1:5001/OUT-upper
command differs Wrong usage exits with 2, and with 125 where a container would run.
$E push # out-

$E save out-absent
$E save -o no/such/file seen # out-
$E save -o . seen # out-
$E save -o /dev/null seen # out-
$E save seen with-config | tar -xO manifest.json | grep -o '"RepoTags":\["[a-z:-]*"\]' | sort # out-
$E save -o out-saved.tar seen; stat -c %a out-saved.tar; $E load -qi out-saved.tar
$E export out-absent
$E create --network none --name out-made seen true | wc -c; $E export out-made | tar -t | grep -v -e '^.dockerenv$' -e '^dev/' | sort
$E export -o no/such/file out-made
$E rm out-made

$E run --network none --name out-from seen sh -c 'echo new >/etc/new; rm /etc/passwd; rm -r /seed; mkdir /seed; ln /etc/new /etc/newer; chmod 700 /tmp'
$E commit -a me -m why out-from out-committed | wc -c
$E run --rm --network none out-committed sh -c 'cat /etc/new; ls -A /seed; test -e /etc/passwd || echo gone; stat -c %a /tmp; stat -c "%a %h" /etc/newer'
$E history --format '{{.CreatedBy}}|{{.Comment}}' --no-trunc out-committed | head -1
$E image inspect -f '{{.Author}} {{.Comment}} {{json .Config.Cmd}} {{len .RootFS.Layers}}' out-committed
$E commit -c 'CMD ["x", "y"]' -c 'ENTRYPOINT z' -c 'ENV A=1 B="two words"' -c 'EXPOSE 80 53/udp' -c 'LABEL a=b' -c 'USER me' -c 'VOLUME /v' -c 'WORKDIR /w' -c 'ONBUILD RUN x' out-from out-changed | wc -c
$E image inspect -f '{{json .Config.Cmd}} {{json .Config.Entrypoint}} {{json .Config.Env}} {{json .Config.ExposedPorts}} {{json .Config.Labels}} {{.Config.User}} {{json .Config.Volumes}} {{.Config.WorkingDir}} {{json .Config.OnBuild}}' out-changed
$E commit -c 'HEALTHCHECK --interval=5s --retries=3 CMD true' out-from out-health | wc -c; $E image inspect -f '{{json .Config.Healthcheck.Test}} {{json .Config.Healthcheck.Interval}} {{.Config.Healthcheck.Retries}}' out-health
$E commit -c 'WORKDIR /a' -c 'WORKDIR b/../c' -c 'ENV P=$PATH:/x' -c "LABEL q='a b' r=c\\ d" out-from out-words | wc -c; $E image inspect -f '{{.Config.WorkingDir}} {{json .Config.Env}} {{json .Config.Labels}}' out-words
differs `--change` takes STOPSIGNAL.
$E commit -c 'STOPSIGNAL INT' out-from out-signal | wc -c; $E image inspect -f '{{.Config.StopSignal}}' out-signal
$E commit -c 'RUN x' out-from
$E commit -c 'SHELL ["x"]' out-from
$E commit -c 'CMD' out-from | wc -c
$E commit -c 'USER' out-from
$E commit -c 'nonsense' out-from
$E commit -c 'ENV A' out-from
$E commit out-from OUT-upper
$E commit out-absent
$E create --network none --name out-idle with-config | wc -c; $E commit out-idle out-same | wc -c; $E image inspect -f '{{json .Config.Cmd}} {{json .Config.Entrypoint}} {{.Config.User}} {{.Config.WorkingDir}} {{json .Config.Labels}}' out-same
$E rm out-from out-idle; for i in out-committed out-changed out-health out-words out-same; do $E rmi $i 2>/dev/null || $E rmi $i; done | grep -c Untagged

$E login -u me 127.0.0.1:5001 # out-
$E login --password-stdin 127.0.0.1:5001 # out-
$E login -u me -p x --password-stdin 127.0.0.1:5001 # out-
echo x | $E login -u me --password-stdin 127.0.0.1:5001 # out-
$E logout 127.0.0.1:5001; $E logout 127.0.0.1:5001 # out-
$E logout # out-
$E search --limit 101 out-x
$E search --filter nonsense=1 out-x

$E volume create --label a=1 vol-one; $E volume create vol-one; $E volume ls -f name=vol-one
$E volume ls -q -f name=vol-one -f dangling=true
$E volume ls -q -f name=vol-one -f dangling=false
$E volume ls --format '{{.Name}} {{.Driver}} {{.Labels}} {{.Scope}}' -f label=a=1
$E volume ls -f nonsense=1
$E volume inspect -f '{{.Name}} {{.Driver}} {{.Scope}} {{.Labels}} {{.Options}}' vol-one
command differs A failing `inspect` prints nothing on standard output, and exits with 1.
$E volume inspect -f '{{.Name}}' no-such-volume
$E volume create .odd
$E volume create -d no-such-driver vol-two
$E volume rm $($E volume create) | wc -c
$E run --network none --name vol-user -v vol-used:/x seen true; $E volume rm vol-used
$E volume inspect -f '{{.Name}} {{.Labels}}' vol-used
$E rm vol-user; $E volume rm vol-used vol-one
$E volume rm no-such-volume
$E volume rm -f no-such-volume

$E create --network none --name pruned --label prune-me=1 seen true | wc -c; $E container prune -f --filter label=prune-me=1 | tail -n +3
$E container prune -f --filter label=prune-me=1
echo n | $E container prune --filter label=prune-me
$E container prune -f --filter nonsense=1
$E container prune -f --filter until=soon
echo n | $E image prune
echo n | $E image prune -a
# What others of these lines leave behind meanwhile counts, too.
$E image prune -f --filter label=nobody-has-this | sed 's/: .*//'
differs `image prune` refuses a filter `dangling` that is neither true nor false.
$E image prune -f --filter dangling=maybe
echo n | $E system prune
echo n | $E system prune -a --filter label=x
$E system prune -f --volumes --filter until=1h
differs `volume prune` takes anonymous volumes only, unless all are asked for, as Docker does since version 23.
echo n | $E volume prune

$E run -d --network none --name give-pid --pid '' seen sleep 1000 | wc -c; $E run --rm --network none --pid container:give-pid seen sh -c 'tr "\0" " " </proc/1/cmdline'
$E create --network none --name take-pid --pid container:give-pid seen sh -c 'tr "\0" " " </proc/1/cmdline' | wc -c; $E inspect -f '{{slice .HostConfig.PidMode 0 10}}' take-pid; $E start -a take-pid
$E run --rm --network none --pid container:no-such-one seen true
$E run --rm --network none --pid nonsense seen true
$E rm -f give-pid take-pid
$E run --rm --network none --pid container:take-pid seen true

$E run -d --network none --name give-ipc --ipc shareable seen sh -c 'echo shared >/dev/shm/word; sleep 1000' | wc -c; until $E exec give-ipc test -s /dev/shm/word; do :; done; $E run --rm --network none --ipc container:give-ipc seen sh -c 'cat /dev/shm/word; echo more >>/dev/shm/word'; $E exec give-ipc cat /dev/shm/word
$E run -d --network none --name keep-ipc seen sleep 1000 | wc -c; $E run --rm --network none --ipc container:keep-ipc seen true
$E run --rm --network none --ipc none seen sh -c 'test -e /dev/shm || echo none'
$E run --rm --network none --ipc nonsense seen true
$E inspect -f '{{.HostConfig.IpcMode}}' give-ipc keep-ipc
$E rm -f give-ipc keep-ipc

$E run --network none -a stdout seen sh -c 'echo out; echo err >&2' 2>&1
$E run --network none -a stderr -a STDOUT seen sh -c 'echo out; echo err >&2' 2>&1 >/dev/null
echo typed | $E run -i --network none --name at-stdin -a stdin seen cat | wc -c; $E wait at-stdin; $E logs at-stdin
$E run --network none -a nonsense seen true
command differs Options that contradict each other exit with 125, where a container would run.
$E run -d --network none -a stdout seen true
$E create --network none --name at-made -i seen true | wc -c; $E inspect -f '{{.Config.AttachStdin}} {{.Config.AttachStdout}} {{.Config.AttachStderr}} {{.Config.OpenStdin}} {{.Config.StdinOnce}}' at-made
$E run -d --network none --name at-detached -i seen cat | wc -c; $E inspect -f '{{.Config.AttachStdin}} {{.Config.AttachStdout}} {{.Config.AttachStderr}} {{.Config.OpenStdin}} {{.Config.StdinOnce}}' at-detached
$E run --network none --rm --sig-proxy=false seen echo proxied
$E rm -f at-stdin at-made at-detached

$E create --network none --name limit-io --device-cgroup-rule 'c 1:* rw' --cgroup-parent /limited seen true | wc -c; $E inspect -f '{{.HostConfig.DeviceCgroupRules}} {{.HostConfig.CgroupParent}}' limit-io; $E rm limit-io
differs A limit that cannot be applied, or makes no sense, is an error where Docker warns and leaves it out.
$E create --network none --blkio-weight 9 seen true
$E create --network none --blkio-weight-device /dev/vda:5 seen true
$E create --network none --blkio-weight-device vda:10 seen true
$E create --network none --device-read-bps /dev/vda seen true
$E create --network none --device-read-bps /dev/vda:x seen true
$E create --network none --device-write-iops /dev/vda:1mb seen true
$E create --network none --device-cgroup-rule 'x 1:3 r' seen true
$E create --network none --cpu-rt-runtime 2000 --cpu-rt-period 1000 seen true
$E create --network none --isolation hyperv seen true
$E create --network none --runtime nonsense seen true
$E run --rm --network none --gpus all seen true
command differs Options that contradict each other exit with 125, where a container would run.
$E run --rm --network none --cpu-count 2 seen true
$E run --rm --network none --isolation default --disable-content-trust seen echo fine

$E create --network none --name sized seen true | wc -c; $E inspect -s sized | grep -c '"SizeRw"'; $E inspect -s sized | grep -c '"SizeRootFs"'; $E inspect sized | grep -c '"Size'; $E rm sized

rm -rf cp-* nowhere d k clash; mkdir -p cp-src/sub && echo text >cp-src/file && echo deep >cp-src/sub/deep && ln -s file cp-src/link && chmod 640 cp-src/file && chown 1000:33 cp-src/file && find cp-src -exec touch -hd @1000000000 {} +
$E create --network none --name cp-idle seen sh -c 'cd /new && find . | sort && ls -ln --full-time . sub | cut -c1-58' | wc -c
$E cp cp-src cp-idle:/new; $E start -a cp-idle
$E cp cp-src/file cp-idle:/new/named; $E cp cp-src/file cp-idle:/new/sub/; $E cp cp-src/. cp-idle:/new/content; $E cp cp-src/ cp-idle:/new/sub
$E cp cp-src/file cp-idle:/new/no-such-dir/; $E cp cp-src/file cp-idle:/new/no/such
$E cp cp-src/no-such cp-idle:/new
$E cp cp-src cp-idle:/new/named
$E cp cp-src/file cp-idle:/new/content; $E cp -L cp-src/link cp-idle:/new/followed; $E cp cp-src/link cp-idle:/new/linked
$E start -a cp-idle
$E cp cp-idle:/new - | tar -t | sort
$E cp cp-idle:/new/. - | tar -t | sort
$E cp cp-idle:/new/ - | tar -t | sort
$E cp cp-idle:/new/named - | tar -tv --numeric-owner --full-time
$E cp cp-idle:/new/linked - | tar -t
$E cp -L cp-idle:/new/linked - | tar -t
$E cp cp-idle:/bin/ - | tar -t | grep -c .
$E cp cp-idle:/etc/passwd - | tar -x -O | head -1
$E cp cp-idle:/no/such -
$E cp cp-idle:/new/named/x -
$E cp cp-idle:/new cp-out && find cp-out | sort; $E cp cp-idle:/new cp-out && find cp-out | sort; $E cp cp-idle:/new/. cp-out2; find cp-out2 | sort; ls -ln --full-time cp-out2/file
$E cp cp-idle:/new/named cp-out/; $E cp cp-idle:/new/named cp-no/such; $E cp cp-idle:/new/named cp-no/; $E cp cp-idle:/new cp-out/named
$E cp -L cp-idle:/new/linked cp-flat; ls -ln cp-flat; $E cp cp-idle:/new/linked cp-link; readlink cp-link
ln -s nowhere cp-dangling; $E cp cp-idle:/new/named cp-dangling; cat nowhere
command differs `cp -a` keeps owners on the way out of a container, too, as its help says.
$E cp -a cp-idle:/new/named cp-kept; stat -c %u:%g cp-kept
tar -c -C cp-src file | $E cp - cp-idle:/tmp; tar -c -C cp-src sub | gzip | $E cp - cp-idle:/tmp; $E cp cp-idle:/tmp - | tar -t | sort
tar -c -C cp-src file | $E cp - cp-idle:/tmp/file
tar -c -C cp-src file | $E cp - cp-idle:/tmp/none
$E cp cp-idle:/a cp-idle:/b
$E cp a b
$E cp '' cp-idle:/b
$E cp cp-absent:/a .
$E cp . cp-absent:/a
$E cp cp-src/file cp-idle:; $E cp cp-idle:file - | tar -t
$E rm cp-idle | wc -l

$E create --network none --read-only -v cp-volume:/v -v cp-fixed:/f:ro --tmpfs /t --name cp-fixed-root -u www-data seen true | wc -c
echo x >cp-one; $E cp cp-one cp-fixed-root:/x; $E cp cp-one cp-fixed-root:/f/x; $E cp cp-one cp-fixed-root:/v/x; $E cp cp-one cp-fixed-root:/v/y -a; $E cp cp-fixed-root:/v - | tar -tv --numeric-owner | sed 's/ 20[0-9-]* [0-9:]* / /'
$E rm -v cp-fixed-root; $E volume rm cp-volume cp-fixed

$E run -d --network none --name cp-runs -v cp-used:/v --tmpfs /t seen sleep 1000 | wc -c
echo x >cp-live; $E cp cp-live cp-runs:/v/x; $E cp cp-live cp-runs:/root/x; $E exec cp-runs cat /v/x /root/x; $E cp cp-runs:/v/x - | tar -x -O
$E exec cp-runs sh -c 'ln -s /root/made /root/dangling; ln -s ../../../../v /root/up'; $E cp cp-live cp-runs:/root/dangling; $E cp cp-live cp-runs:/root/up/y; $E exec cp-runs cat /root/made /v/y
$E exec cp-runs sh -c 'mkdir -p /d/e && echo old >/d/e/f && chmod 700 /d/e'; mkdir -p d/e && echo new >d/e/f; $E cp d cp-runs:/; $E exec cp-runs sh -c 'cat /d/e/f; stat -c %a /d/e'
mkdir -p k/d; $E exec cp-runs sh -c 'mkdir /k && touch /k/d'; $E cp k cp-runs:/; rm -r k
mkdir k; touch k/d; $E exec cp-runs sh -c 'rm /k/d; mkdir /k/d'; $E cp k cp-runs:/; rm -r k d
$E rm -fv cp-runs; $E volume rm cp-used

$E create --network none --name ev-one --label tier=front -v ev-vol:/v seen sh -c 'exit 3' | wc -c; $E start ev-one; $E wait ev-one; $E rename ev-one ev-two; $E update -m 64m --memory-swap 64m ev-two; $E commit -m remark ev-two ev-image | wc -c; $E export ev-two | wc -c >ev-size; $E cp ev-two:/etc/passwd ev-file; $E cp ev-file ev-two:/root; $E rm ev-two; $E volume rm ev-vol; $E tag ev-image ev-other; $E rmi ev-other ev-image | grep -c .
$E run -d --network none --name ev-run --stop-signal USR1 seen sh -c 'trap "exit 4" USR1; while :; do sleep 0.01; done' | wc -c; $E pause ev-run; $E unpause ev-run; $E exec ev-run sh -c 'exit 5'; $E exec ev-run true; $E stop ev-run; $E restart -t 0 ev-run; $E kill ev-run; $E wait ev-run; $E start ev-run; $E rm -f ev-run
$E run --rm --network none --name ev-short -v ev-vol2:/x:ro -v /anonymous seen true; $E volume rm ev-vol2
$E volume create --label a=b ev-made; $E volume rm ev-made
until=$(($(date +%s)+1)); $E events --since 1 --until $until --filter label=tier=front --format '{{.Type}} {{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}} {{.Actor.Attributes.oldName}} {{.Actor.Attributes.comment}} {{.From}} {{.Status}} {{.Scope}}'
until=$(($(date +%s)+1)); $E events --since 1 --until $until --filter container=ev-run --format '{{.Action}} {{.Actor.Attributes.signal}} {{.Actor.Attributes.exitCode}}' | sort
until=$(($(date +%s)+1)); $E events --since 1 --until $until --filter container=ev-short | sed 's/^[^ ]* //'
until=$(($(date +%s)+1)); $E events --since 1 --until $until --filter volume=ev-vol2 --filter type=volume | sed 's/^[^ ]* //'
until=$(($(date +%s)+1)); $E events --since 1 --until $until --filter image=ev-other --format '{{.Action}} {{.Actor.Attributes.name}}'
until=$(($(date +%s)+1)); $E events --since 1 --until $until --filter container=ev-short --filter event=create --format '{{json .Actor.Attributes}}'
until=$(($(date +%s)+1)); $E events --since 1 --until $until --filter container=ev-short --filter type=volume
$E events --since 1 --until 2
command differs A malformed filter exits with 1.
$E events --since 1 --until 2 --filter nonsense
$E events --since never

$E info -f '{{.OSType}} {{.Architecture}} {{.NCPU}} {{.MemTotal}} {{.KernelVersion}} {{.Name}} {{.CgroupVersion}} {{.CgroupDriver}} {{.LoggingDriver}} {{.Swarm.LocalNodeState}} # in-'
$E info -f '{{.MemoryLimit}} {{.SwapLimit}} {{.CPUShares}} {{.CPUSet}} {{.PidsLimit}} {{.CPUCfsPeriod}} {{.CPUCfsQuota}} {{.OomKillDisable}} {{.IPv4Forwarding}} # in-'
$E system info | grep -E '^ (OSType|Architecture|CPUs|Total Memory|Kernel Version|Cgroup Version|Logging Driver|Swarm|Debug Mode):' # in-
$E info | grep -E '^(Client|Server)' # in-
$E version -f '{{.Client.Os}} {{.Server.Os}} {{.Server.Arch}} {{.Server.KernelVersion}} {{len .Server.Components | eq 0}} {{.Server.Experimental}}' # in-

$E volume create insp-vol; $E network create insp-net | wc -c; $E inspect -f '{{.Name}} {{.Driver}} {{.Scope}}' insp-vol insp-net; $E inspect --type volume -f '{{.Name}}' insp-vol; $E inspect --type network -f '{{.Name}}' insp-net; $E volume rm insp-vol; $E network rm insp-net
$E inspect --type volume insp-vol
$E inspect insp-none
$E inspect --type nonsense seen

for t in a b; do all=127.0.0.1:5001/$(basename $E)/all; $E tag seen $all:$t; $E push -q $all:$t >all-out; $E rmi $all:$t >all-out; done; $E pull -qa $all | sed "s,$(basename $E)/,,"; $E images --format '{{.Tag}}' $all; $E rmi $all:a $all:b | grep -c Untagged
$E pull -a seen:latest
$E pull -a 127.0.0.1:5001/all/absent

rm -rf imp-tree; mkdir -p imp-tree/dir && echo imported >imp-tree/file && chown 3:4 imp-tree/file && ln -s file imp-tree/dir/link && tar -C imp-tree -c . >imp.tar
$E import - imp-stdin <imp.tar | cut -c1-7; $E image inspect -f '{{.Comment}} {{json .Config.Cmd}} {{len .RootFS.Layers}} {{.Os}}' imp-stdin
$E import imp.tar imp-file:1 | cut -c1-7; $E images --format '{{.Repository}}:{{.Tag}}' imp-file
$E import -m 'why not' -c 'CMD ["/file"]' -c 'ENV A=1' -c 'EXPOSE 80' imp.tar imp-changed | cut -c1-7; $E image inspect -f '{{.Comment}} {{json .Config.Cmd}} {{json .Config.Env}} {{json .Config.ExposedPorts}}' imp-changed
$E history --format '{{.CreatedBy}}|{{.Comment}}' imp-changed
gzip <imp.tar | $E import - imp-gz | cut -c1-7
$E import imp.tar | cut -c1-7
$E create --network none --name imp-made imp-changed | wc -c; $E export imp-made | tar -t --exclude '*dev*' --exclude '*docker*' --exclude '*etc*' --exclude '*proc*' --exclude '*sys*' | sort; $E cp imp-made:/file - | tar -tv --numeric-owner | cut -d' ' -f1-2; $E rm imp-made
$E import no-such-file imp-none
echo nonsense | $E import - imp-none
$E import imp.tar UPPER
$E import -c 'RUN x' imp.tar imp-none
$E rmi imp-stdin imp-file:1 imp-changed imp-gz | grep -c Untagged

$E network create --subnet 10.94.0.0/24 net-one | wc -c; $E network create --subnet 10.93.0.0/24 --label of=two net-two | wc -c
$E run -d --network net-one --name net-c seen sleep 1000 2>/dev/null | wc -c
$E network connect --ip 10.93.0.77 --alias other net-two net-c; $E exec net-c sh -c 'ip -o -4 addr show | tr -s " " | cut -d" " -f2-4'
$E network connect net-two net-c
$E inspect -f '{{range $name, $net := .NetworkSettings.Networks}}{{$name}} {{$net.IPAddress}} {{$net.IPPrefixLen}} {{$net.Gateway}} {{$net.MacAddress}} {{json $net.IPAMConfig}};{{end}}' net-c
$E network inspect -f '{{range .Containers}}{{.Name}} {{.IPv4Address}} {{.MacAddress}}{{end}}' net-two
$E ps --filter network=net-two --format '{{.Names}} {{.Networks}}' | tr ' ,' '\n' | sort
$E run --rm --network net-two seen sh -c 'ping -c1 -W5 other | grep -c "1 packets received"; ping -c1 -W5 net-c | grep -c "1 packets received"' 2>/dev/null
$E network rm net-two
$E network disconnect net-two net-c; $E exec net-c sh -c 'ip -o -4 addr show | tr -s " " | cut -d" " -f2-4'
$E network disconnect net-two net-c
$E network disconnect no-such-network net-c
$E run --rm --network net-two --link-local-ip 169.254.34.68 seen sh -c 'ip -o -4 addr show eth0 | tr -s " " | cut -d" " -f2-4 | sort' 2>/dev/null
$E create --network net-two --link-local-ip 169.254.34.68 --name net-d seen true 2>/dev/null | wc -c; $E inspect -f '{{json (index .NetworkSettings.Networks "net-two").IPAMConfig}}' net-d
$E network ls --filter driver=bridge --filter label=of=two --format '{{.Name}}: {{.Driver}}'
$E network ls -q --no-trunc --filter name=net-one | wc -c
$E rm -f net-c net-d; $E network rm net-two no-such-network net-one
$E network create --label prune-me=1 --subnet 10.92.0.0/24 net-pruned | wc -c; $E network prune -f --filter label=prune-me=1
$E network prune -f --filter label=prune-me=1; echo n | $E network prune

$E network create --subnet 10.91.0.0/24 pub-net | wc -c; $E run -d --network pub-net --name pub-c --expose 90 -p 127.0.0.1:18080:80 -p 127.0.0.1:18443:443/udp seen sleep 1000 2>/dev/null | wc -c
$E port pub-c | sort; $E port pub-c 80; $E port pub-c 80/tcp; $E port pub-c 443/udp; $E port pub-c 7777
$E inspect --format='{{range $p, $conf := .NetworkSettings.Ports}}{{if $conf}}{{$p}} -> {{(index $conf 0).HostPort}} {{end}}{{end}}' pub-c
$E inspect -f '{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostIp}} {{json (index .NetworkSettings.Ports "90/tcp")}}' pub-c
$E ps --filter publish=18080 --format '{{.Names}} {{.Ports}}'; $E ps --filter publish=18000-18100/tcp --format '{{.Names}}'; $E ps --filter expose=90/tcp --format '{{.Names}}'; $E ps --filter expose=91 -q
$E ps --filter publish=x
$E rm -f pub-c; $E network rm pub-net

$E container create --network none --name grp-c -v grp-v:/data --stop-timeout 3 seen sh -c 'echo started; trap "exit 9" TERM; while :; do sleep 0.01; done' 2>/dev/null | wc -c; $E container inspect -f '{{.Config.StopTimeout}}' grp-c
$E container start grp-c; until $E container logs grp-c | grep -q started; do :; done; $E container ls -f name=grp-c --format '{{.Names}} {{.State}}'; $E container list -q -f name=grp-c | wc -c
{ $E container pause grp-c; $E container unpause grp-c; $E container exec grp-c ls -d /data; $E container top grp-c -o pid | head -n1; $E container port grp-c; $E container rename grp-c grp-d; $E container update --cpu-shares 512 grp-d; $E container cp grp-d:/etc/passwd - | tar -t; } 2>/dev/null
$E container ps -q -f volume=grp-v | wc -c; $E ps -a --filter volume=grp-v --format 'table {{.Names}}\t{{.Mounts}}'; $E ps --filter volume=/data --format '{{.Names}}'
$E container stop grp-d; $E container wait grp-d; $E container restart -t 0 grp-d; $E container kill grp-d; $E container run --rm --network none --volumes-from grp-d seen ls -d /data; $E container rm grp-d; $E volume rm grp-v
