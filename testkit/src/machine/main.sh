# The machine's first process once its disks are there: runs every line of /machine/commands and
# tells over the second serial line how each ended.
say() {
    printf '%s\n' "$*" >/dev/ttyS1
}

set -e
stty -F /dev/ttyS1 raw -echo
say "machine: up, Linux $(uname -r)"
mount -t tmpfs -o mode=755 run /run
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o mode=620,ptmxmode=666,gid=5 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
ip link set lo up
hostname machine
# Swap that is memory: groups shall have something to swap to.
echo 256M >/sys/block/zram0/disksize
mkswap /dev/zram0 >/dev/null
swapon /dev/zram0
# Memory is no place for the tests' files: its file system maps ids since Linux 6.3 only.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root CAIS_TEST_MACHINE=1
# Emulated, what needs no kernel takes long, and has run outside.
export PROPTEST_CASES=8

say "$(cat /proc/swaps)"
set +e
result=0
while read -r directory command; do
    say "machine: run $command"
    { (cd "$directory" && exec $command) </dev/null 2>&1; echo $? >/run/code; } | cat >/dev/ttyS1
    code=$(cat /run/code)
    say "machine: exit $code $command"
    [ "$code" = 0 ] || result=1
done </machine/commands
say "machine: end $result"
# What was written to the line reaches it before the machine goes.
stty -F /dev/ttyS1 raw -echo
busybox reboot -f
