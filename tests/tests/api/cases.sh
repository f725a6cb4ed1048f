# What the real client asks of a daemon, beyond the cases of `parity`: see there for how to read it.

$E version --format '{{.Server.Os}} {{.Server.Arch}}'
$E info --format '{{.OSType}} {{.NCPU}} {{.Swarm.LocalNodeState}} {{.CgroupDriver}} {{.LoggingDriver}}'
$E node ls
$E service ls
$E swarm leave
$E secret ls
$E config ls
$E stack ls
$E plugin ls
$E plugin inspect no-such-plugin

$E run -d --network none --name attached seen sh -c 'while :; do echo tick; sleep 1; done' | wc -c; t=$(mktemp); $E attach --no-stdin attached >$t & until grep -q tick $t; do :; done; $E kill -s KILL attached; wait $!; echo $?; rm $t; $E rm attached
$E create -i --network none --name fed seen cat | wc -c; echo text | $E start -ai fed; $E wait fed; $E logs fed; $E rm fed
$E create --network none --name next seen sh -c 'exit 3' | wc -c; $E start next; $E wait next; $E wait next next; $E rm next
$E run -d --rm --network none --name removed seen sleep 1000 | wc -c; $E wait removed & until ls -l /proc/$!/fd | grep -q socket; do :; done; $E inspect removed >/dev/null; $E kill removed >/dev/null; wait; $E ps -aq -f name=removed
$E attach no-such-container
$E wait no-such-container
$E create --network none --name idle seen true | wc -c; $E attach idle; $E stats --no-stream --format '{{.Name}} {{.CPUPerc}} {{.PIDs}}' idle; $E top idle; $E rm idle

$E run -d --network none --name used -m 64m seen sh -c 'echo $$; exec sleep 1000' | wc -c
$E stats --no-stream --format '{{.Name}} {{.NetIO}} {{.PIDs}}' used
$E stats --no-stream --format '{{.MemUsage}}' used | cut -d/ -f2
$E top used -o args
$E top used -o nonsense
$E exec -d used sh -c 'echo from exec >/tmp/x'; until $E exec used cat /tmp/x 2>/dev/null; do :; done
$E exec -e A=1 -w /tmp used sh -c 'echo $A; pwd'
$E exec used sh -c 'echo out; echo err >&2' 2>/dev/null
echo piped | $E exec -i used sh -c 'cat; exit 9'
$E inspect -f '{{.ExecIDs}}' used
$E events --since 10s --until 0s --filter container=used --filter event=die --format '{{.Action}}'
$E container ls -f name=used --format '{{.Names}} {{.State}} {{.Ports}} {{.Networks}}'
$E commit used committed-api | cut -c1-7; $E run --rm --network none committed-api cat /tmp/x; $E rmi committed-api | grep -c Deleted
$E export used | tar -t | grep -c '^bin/'
$E rm -f used
$E exec used true

$E create --network none --runtime no-such seen true
$E create --network none --isolation hyperv seen true
$E run --rm --network none --gpus all seen true
$E create --network none --log-driver nonsense seen true
$E create --network none --volume-driver nonsense -v x:/x seen true
$E create --network none --restart always --rm seen true
$E create --link none-such seen true
$E create --network none --mac-address nonsense seen true
$E run --rm --network container:none-such seen true
$E run --rm --network none --ipc container:none-such seen true

mkdir -p context; printf 'FROM seen\nARG A=1\nENV B=$A\nCOPY f /f\nRUN cat /f && echo $B >/b\nCMD cat /b\n' >context/Dockerfile; echo file >context/f; DOCKER_BUILDKIT=0 $E build -q --network none --build-arg A=2 -t built-api context 2>/dev/null | cut -c1-7; $E run --rm --network none built-api; $E image inspect -f '{{.Config.Env}} {{.Config.Cmd}}' built-api; $E rmi built-api | grep -c Untagged
printf 'FROM seen\nRUN exit 3\n' >context/Dockerfile; DOCKER_BUILDKIT=0 $E build --network none context >/dev/null 2>&1; echo $?
printf 'FROM seen\nNONSENSE\n' >context/Dockerfile; DOCKER_BUILDKIT=0 $E build context >/dev/null 2>&1; echo $?
DOCKER_BUILDKIT=0 $E build -f no-such context >/dev/null 2>&1; echo $?
