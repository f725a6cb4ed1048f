# The machine's first process once its disks are there: runs jobs on a host that has nothing else,
# then becomes systemd, which runs the others and ends the machine.
set -e
stty -F /dev/ttyS1 raw -echo
echo "machine: up, Linux $(uname -r)" >/dev/ttyS1
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
# A user without privilege, who has further ids.
echo 'tester:x:1000:1000::/home/tester:/bin/sh' >>/etc/passwd
echo 'tester:x:1000:' >>/etc/group
echo 'tester:*:19000::::::' >>/etc/shadow
echo 'tester:100000:65536' | tee /etc/subuid >/etc/subgid
mkdir -p /home/tester
chown 1000:1000 /home/tester
# Memory is no place for the tests' files: its file system maps ids since Linux 6.3 only.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root CAIS_TEST_MACHINE=1
# Emulated, what needs no kernel takes long, and has run outside.
export PROPTEST_CASES=8
# systemd empties /tmp when it starts, where what is tested may lie.
mkdir -p /etc/tmpfiles.d
ln -sf /dev/null /etc/tmpfiles.d/tmp.conf
set +e
echo 0 >/run/result
sh /machine/jobs.sh /machine/commands
exec /lib/systemd/systemd --unit=cais-tests.service --log-level=notice
