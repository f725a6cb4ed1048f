# Runs every line of the file $1, a directory and a command, and tells over the second serial line
# how each ended. Leaves 1 in /run/result when one failed.
while read -r directory command; do
    echo "machine: run $command" >/dev/ttyS1
    { (cd "$directory" && exec $command) </dev/null 2>&1; echo $? >/run/code; } | cat >/dev/ttyS1
    code=$(cat /run/code)
    echo "machine: exit $code $command" >/dev/ttyS1
    [ "$code" = 0 ] || echo 1 >/run/result
done <"$1"
