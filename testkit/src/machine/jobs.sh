# Runs every line of the file $1, a directory and a command, and tells over the second serial line
# how each ended. Leaves 1 in /run/result when one failed.

# Of a command that takes long, shows once what each process waits for: it may hang.
watch() {
    sleep 300
    echo "machine: slow, and these processes are there:"
    for process in /proc/[0-9]*; do
        command=$(tr '\0' ' ' <"$process/cmdline" | cut -c 1-120)
        [ -z "$command" ] || echo "machine: ${process#/proc/} $command: $(cat "$process/wchan")"
    done
}

while read -r directory command; do
    echo "machine: run $command" >/dev/ttyS1
    watch >/dev/ttyS1 2>/dev/null &
    watcher=$!
    { (cd "$directory" && exec $command) </dev/null 2>&1; echo $? >/run/code; } | cat >/dev/ttyS1
    code=$(cat /run/code)
    kill "$watcher"
    echo "machine: exit $code $command" >/dev/ttyS1
    [ "$code" = 0 ] || echo 1 >/run/result
done <"$1"
