#!/usr/bin/env bash
# A real SLURM cluster of one node (this machine), for tests.
#
#   slurm-single-node.sh start  [DIR]   configure, start, wait until idle
#   slurm-single-node.sh stop   [DIR]   cancel this cluster's jobs, end the daemons that start began
#   slurm-single-node.sh status [DIR]   what runs; exit 0 = usable, 1 = partly or not ready, 3 = stopped
#   slurm-single-node.sh env    [DIR]   print the shell line that points clients at this cluster
#   slurm-single-node.sh wipe   [DIR]   stop, then remove DIR (only if this script made it)
#
#   eval "$(slurm-single-node.sh env DIR)"      # then: sinfo, sbatch, snakemake --executor slurm
#
# "env" puts DIR/bin before PATH: wrappers of the SLURM clients that set SLURM_CONF. SLURM_CONF alone is
# not enough for Snakemake: its slurm-jobstep plugin (0.6.1) strips SLURM_* variables, SLURM_CONF among
# them, from the environment of the srun that it calls within the job.
#
# DIR defaults to $SLURM_TEST_DIR, else /tmp/slurm-single-node. Everything lives in it: configuration,
# munge key, sockets, state, logs. /etc/slurm, /etc/munge and system services are left alone.
# Three daemons run in the foreground mode of each (munged, slurmctld, slurmd), detached; their pids and
# start times are recorded in DIR/run, and only a process that matches both is ever signalled.
# All of them listen on loopback only; start checks that and stops again if it is not so.
#
# Settings (environment; read by start, a running cluster must be stopped first to change them):
#   SLURM_TEST_GPUS=1            GPUs to declare in the partition "gpu" (no device behind them); 0: none
#   SLURM_TEST_CPUS=, SLURM_TEST_MEM_MB=   declare more (or less) than the machine has
#   SLURM_TEST_CTLD_PORT=6817, SLURM_TEST_NODE_PORT=6818
#   SLURM_TEST_ENFORCE_MEM=0     1: kill a job whose resident memory exceeds its request (polled, 2 s)
#   SLURM_TEST_WAIT_S=60         how long start waits for the node
#   SLURM_TEST_INSTALL=0         1: install slurm-wlm and munge with apt-get where they are missing
#
# Root is needed to install; with the packages there, an ordinary user can run it for himself.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C
# Drop the wrapper directories of this or another cluster from PATH: a wrapper sets SLURM_CONF to its own.
clean=
IFS=: read -ra parts <<<"$PATH"
for p in "${parts[@]}"; do [ -e "$p/.slurm-single-node-bin" ] || clean=$clean${clean:+:}$p; done
PATH=$clean
unset SLURM_CONF clean parts p

say()  { printf '%s\n' "slurm-single-node: $*" >&2; }
die()  { say "$*"; exit 1; }

verb=${1:-}
dir=${2:-${SLURM_TEST_DIR:-/tmp/slurm-single-node}}
case $verb in start|stop|status|env|wipe) ;; *) sed -n '2,30p' "$0" | sed 's/^# \{0,1\}//' >&2; exit 2 ;; esac
case $dir in /*) ;; *) dir=$PWD/$dir ;; esac
case $dir in *[!A-Za-z0-9_./+-]*) die "directory name with characters SLURM cannot take: $dir" ;; esac
[ ${#dir} -le 60 ] || die "directory name too long for unix sockets (more than 60 characters): $dir"

marker=$dir/.slurm-single-node
conf=$dir/etc/slurm.conf
sock=$dir/run/munge.socket
ctld_port=${SLURM_TEST_CTLD_PORT:-6817}
node_port=${SLURM_TEST_NODE_PORT:-6818}
node=$(hostname -s 2>/dev/null || uname -n)
daemons="munged slurmctld slurmd"

# ---- processes ----------------------------------------------------------------------------------------
# DIR/run/NAME.started holds "pid starttime" (field 22 of /proc/PID/stat), so a pid that the system
# has since given to another process is never taken for ours.
starttime() { local s; s=$(cat "/proc/$1/stat" 2>/dev/null) || return 1; s=${s##*) }; set -- $s
              [ "$1" != Z ] || return 1; echo "${20}"; }
our_pid() {                                   # print NAME's pid if the recorded process is alive
  local pid began now
  [ -r "$dir/run/$1.started" ] || return 1
  read -r pid began < "$dir/run/$1.started" || return 1
  now=$(starttime "$pid") || return 1
  [ "$now" = "$began" ] || return 1
  echo "$pid"
}
launch() {                                    # launch NAME command...
  local name=$1 pid; shift
  (cd / && exec setsid "$@") </dev/null >>"$dir/log/$name.out" 2>&1 9>&- &
  pid=$!
  echo "$pid $(starttime "$pid" || echo gone)" > "$dir/run/$name.started"
}
end_one() {                                   # end NAME if it is ours: TERM, then KILL
  local name=$1 pid i
  if pid=$(our_pid "$name"); then
    kill -TERM "$pid" 2>/dev/null || true
    for i in $(seq 100); do our_pid "$name" >/dev/null || break; sleep 0.1; done
    if our_pid "$name" >/dev/null; then say "$name ($pid) ignored TERM for 10 s: KILL"; kill -KILL "$pid" || true; sleep 0.2; fi
    say "$name ($pid) ended"
  fi
  rm -f "$dir/run/$name.started"
}
node_state() { SLURM_CONF=$conf timeout 10 sinfo -h -N -n "$node" -o %T 2>/dev/null | sort -u | head -1 || true; }
node_usable() { case $(node_state) in idle|mixed|allocated|completing) return 0 ;; *) return 1 ;; esac; }

# ---- packages -----------------------------------------------------------------------------------------
have_all() { local c; for c in munged slurmctld slurmd sbatch srun squeue scontrol sinfo setsid ss; do command -v $c >/dev/null || return 1; done; }
install_packages() {
  have_all && return 0
  [ "${SLURM_TEST_INSTALL:-0}" = 1 ] || die "SLURM or munge is missing: apt-get install slurm-wlm munge, or SLURM_TEST_INSTALL=1"
  command -v apt-get >/dev/null || die "SLURM or munge is missing, and there is no apt-get"
  [ "$(id -u)" = 0 ] || die "installing slurm-wlm and munge needs root"
  say "installing slurm-wlm and munge"
  # Keep the packages' own services from starting: this script starts its own daemons.
  local made_policy=
  if [ ! -e /usr/sbin/policy-rc.d ]; then printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; made_policy=1; fi
  local rc=0
  local wait=(-o Acquire::http::Timeout=15 -o Acquire::https::Timeout=15)  # without a network it is to fail soon
  { apt-get "${wait[@]}" update -q && DEBIAN_FRONTEND=noninteractive apt-get "${wait[@]}" install -y -q --no-install-recommends slurm-wlm slurm-wlm-basic-plugins munge iproute2; } \
      >"$dir/log/apt.log" 2>&1 || rc=$?
  [ -z "$made_policy" ] || rm -f /usr/sbin/policy-rc.d
  [ $rc = 0 ] && have_all || { tail -5 "$dir/log/apt.log" >&2; die "apt-get failed: see $dir/log/apt.log"; }
}

# ---- configuration ------------------------------------------------------------------------------------
write_config() {
  local me hw real_cpus real_mem cpus mem gpus gres_types="" gres_gpu="" overrides memkill="" topo i
  me=$(id -un)
  hw=$(slurmd -C | head -1)
  real_cpus=$(sed -n 's/.* CPUs=\([0-9]*\).*/\1/p' <<<"$hw"); real_mem=$(sed -n 's/.* RealMemory=\([0-9]*\).*/\1/p' <<<"$hw")
  [ -n "$real_cpus" ] && [ -n "$real_mem" ] || die "slurmd -C told nothing useful: $hw"
  cpus=${SLURM_TEST_CPUS:-$real_cpus}
  mem=${SLURM_TEST_MEM_MB:-$((real_mem * 95 / 100))}
  gpus=${SLURM_TEST_GPUS:-1}
  # Without this, slurmd would declare the node invalid when it finds less than slurm.conf says.
  overrides="SlurmdParameters=config_overrides"
  topo="CPUs=$cpus Boards=1 SocketsPerBoard=1 CoresPerSocket=$cpus ThreadsPerCore=1"
  : > "$dir/etc/gres.conf"
  if [ "$gpus" -gt 0 ]; then
    gres_types="GresTypes=gpu"; gres_gpu="Gres=gpu:$gpus"
    # A gpu without File= is dropped by slurmd ("count reported lower than configured (0 < 1)"), so each
    # gets a link to /dev/null. Jobs see CUDA_VISIBLE_DEVICES=0.. though there is no device.
    mkdir -p "$dir/gpu"
    for i in $(seq 0 $((gpus - 1))); do ln -sfn /dev/null "$dir/gpu/gpu$i"; done
    printf 'AutoDetect=off\nName=gpu File=%s\n' "$dir/gpu/gpu[0-$((gpus - 1))]" > "$dir/etc/gres.conf"
  fi
  [ "${SLURM_TEST_ENFORCE_MEM:-0}" != 1 ] || memkill="JobAcctGatherParams=OverMemoryKill"
  cat > "$conf" <<CONF
# Written by slurm-single-node.sh; start writes it anew.
ClusterName=single
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$ctld_port
SlurmdPort=$node_port
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket=$sock
CryptoType=crypto/munge
SlurmUser=$me
SlurmdUser=$me
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.log
SlurmctldDebug=info
SlurmdDebug=info
PlugStackConfig=$dir/etc/plugstack.conf
# no cgroups here: processes are tracked by parentage, cores are not pinned
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=5,bf_interval=5
PriorityType=priority/basic
# refuse at submission what the partition can never run, rather than leave it pending for ever
EnforcePartLimits=ALL
# finished jobs stay visible to squeue --states=all and scontrol for a day (no accounting database)
MinJobAge=86400
MaxJobCount=20000
MaxArraySize=1001
JobCompType=jobcomp/filetxt
JobCompLoc=$dir/log/jobcomp.log
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
$memkill
KillWait=5
InactiveLimit=0
Waittime=0
ReturnToService=2
SlurmctldTimeout=120
SlurmdTimeout=120
$overrides
$gres_types
# a job that asks for no memory gets this much per core, not all of the node's
DefMemPerCPU=512
NodeName=$node NodeAddr=127.0.0.1 Port=$node_port $topo RealMemory=$mem $gres_gpu State=UNKNOWN
PartitionName=cpu Nodes=$node Default=YES DefaultTime=60 MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=$node Default=NO DefaultTime=60 MaxTime=INFINITE State=UP
CONF
  : > "$dir/etc/plugstack.conf"
  local tool at
  : > "$dir/bin/.slurm-single-node-bin"
  for tool in sbatch srun salloc squeue scancel scontrol sinfo sacct sacctmgr sshare sstat sattach sbcast sprio; do
    at=$(command -v $tool) || continue
    printf '#!/bin/sh\nSLURM_CONF=%s; export SLURM_CONF\nexec %s "$@"\n' "$conf" "$at" > "$dir/bin/$tool"
    chmod 755 "$dir/bin/$tool"
  done
  env_lines > "$dir/env.sh"
}
env_lines() {
  printf 'export SLURM_CONF=%s\n' "$conf"
  printf 'case "$PATH" in %s:*) ;; *) export PATH=%s:$PATH ;; esac\n' "$dir/bin" "$dir/bin"
}

# Addresses on which our daemons listen, other than loopback
foreign_listeners() {
  local name pid
  for name in $daemons; do pid=$(our_pid $name) || continue; ss -Hltnp 2>/dev/null | grep -F "pid=$pid," | awk '{print $4}' | grep -Ev '^(127\.|\[::1\]|\[::ffff:127\.)' || true; done
}
port_taken() { ss -Hltn "sport = :$1" 2>/dev/null | grep -q .; }

# ---- verbs --------------------------------------------------------------------------------------------
start() {
  local a i n
  if [ -e "$dir" ] && [ ! -e "$marker" ] && [ -n "$(ls -A "$dir" 2>/dev/null)" ]; then die "$dir exists, is not empty and was not made by this script"; fi
  umask 022
  mkdir -p "$dir"; : > "$marker"
  mkdir -p "$dir"/bin "$dir"/etc "$dir"/run "$dir"/log "$dir"/state "$dir"/spool
  chmod 755 "$dir" "$dir"/run "$dir"/spool; chmod 700 "$dir"/state
  exec 9>"$dir/.lock"; flock -w 120 9 || die "another start or stop is under way in $dir"
  n=0; for a in $daemons; do our_pid $a >/dev/null && n=$((n + 1)); done
  if [ $n = 3 ] && node_usable; then say "already running in $dir"; return 0; fi
  install_packages
  a=$(getent ahostsv4 "$node" | awk '{print $1; exit}') || true
  case $a in 127.*) ;; *) die "the host name $node resolves to '${a:-nothing}', not to loopback; SLURM would listen there. Put '127.0.0.1 $node' into /etc/hosts" ;; esac
  if [ $n = 0 ]; then
    for i in "$ctld_port" "$node_port"; do port_taken "$i" && die "port $i is in use; choose others (SLURM_TEST_CTLD_PORT, SLURM_TEST_NODE_PORT)"; done
    write_config
  fi
  if [ ! -s "$dir/etc/munge.key" ]; then (umask 077; head -c 128 /dev/urandom > "$dir/etc/munge.key"); fi
  chmod 700 "$dir/etc" 2>/dev/null; chmod 755 "$dir/etc"; chmod 600 "$dir/etc/munge.key"
  export SLURM_CONF=$conf

  if ! our_pid munged >/dev/null; then
    rm -f "$sock" "$sock.lock"
    launch munged munged --foreground --socket="$sock" --key-file="$dir/etc/munge.key" --pid-file="$dir/run/munged.pid" \
           --log-file="$dir/log/munged.log" --seed-file="$dir/state/munged.seed" --origin=127.0.0.1
    for i in $(seq 100); do [ -S "$sock" ] && munge -n -S "$sock" >/dev/null 2>&1 && break; our_pid munged >/dev/null || break; sleep 0.1; done
    munge -n -S "$sock" 2>/dev/null | unmunge -S "$sock" >/dev/null 2>&1 || { tail -5 "$dir"/log/munged.* >&2; stop_quietly; die "munged did not come up"; }
  fi
  our_pid slurmctld >/dev/null || launch slurmctld slurmctld -D -f "$conf"
  for i in $(seq 100); do timeout 5 scontrol ping 2>/dev/null | grep -q 'is UP' && break; our_pid slurmctld >/dev/null || break; sleep 0.2; done
  our_pid slurmctld >/dev/null || { tail -5 "$dir"/log/slurmctld.* >&2; stop_quietly; die "slurmctld did not come up"; }
  our_pid slurmd >/dev/null || launch slurmd slurmd -D -f "$conf"

  for i in $(seq $((${SLURM_TEST_WAIT_S:-60} * 2))); do
    node_usable && break
    for a in $daemons; do our_pid $a >/dev/null || { tail -5 "$dir/log/$a".* >&2; stop_quietly; die "$a ended"; }; done
    # a node that an earlier run left drained or down
    case $((i % 8)):$(node_state) in 0:drain*|0:down*) scontrol update NodeName="$node" State=RESUME >/dev/null 2>&1 || true ;; esac
    sleep 0.5
  done
  node_usable || { scontrol show node >&2 || true; stop_quietly; die "the node is '$(node_state)' after ${SLURM_TEST_WAIT_S:-60} s; logs in $dir/log"; }
  a=$(foreign_listeners); [ -z "$a" ] || { stop_quietly; die "a daemon listened beyond loopback ($a); stopped"; }
  say "node $node is $(node_state); point clients at it with: . $dir/env.sh"
}

stop_quietly() { for a in slurmd slurmctld munged; do end_one $a; done; }

stop() {
  local i left
  [ -e "$marker" ] || { say "nothing in $dir"; return 0; }
  exec 9>"$dir/.lock"; flock -w 120 9 || die "another start or stop is under way in $dir"
  export SLURM_CONF=$conf
  # Job processes outlive slurmd: cancel the jobs first (all of them are this cluster's own).
  if our_pid slurmctld >/dev/null && our_pid slurmd >/dev/null && our_pid munged >/dev/null; then
    left=$(timeout 10 squeue -h -o %i 2>/dev/null | wc -l) || left=0
    if [ "$left" -gt 0 ]; then
      say "cancelling $left job(s)"
      for i in cpu gpu; do timeout 20 scancel -Q -p $i 2>/dev/null || true; done
      for i in $(seq 40); do [ -z "$(timeout 10 squeue -h -o %i 2>/dev/null)" ] && break; sleep 0.5; done
      [ -z "$(timeout 10 squeue -h -o %i 2>/dev/null)" ] || say "some jobs have not ended within 20 s"
    fi
  fi
  stop_quietly
  rm -f "$sock" "$sock.lock"
}

status() {
  local a pid n=0
  [ -e "$marker" ] || { echo "stopped (nothing in $dir)"; return 3; }
  for a in $daemons; do if pid=$(our_pid $a); then echo "$a running, pid $pid"; n=$((n + 1)); else echo "$a not running"; fi; done
  [ $n != 0 ] || return 3
  [ $n = 3 ] || return 1
  export SLURM_CONF=$conf
  timeout 10 sinfo -N -o '%N %P %T cpus=%c mem=%m gres=%G' || true
  echo "jobs now: $(timeout 10 squeue -h -o %i 2>/dev/null | wc -l)"
  node_usable || return 1
}

case $verb in
  start) start ;;
  stop) stop ;;
  status) status ;;
  env) env_lines ;;
  wipe) [ -e "$marker" ] || { [ ! -e "$dir" ] || die "$dir was not made by this script"; exit 0; }
        stop; rm -rf -- "$dir" ;;
esac
