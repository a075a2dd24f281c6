"""Lines of shell that run where the cluster's disk is: POSIX, with what they are about as arguments, never in them."""

from __future__ import annotations

NO_SLURM, NO_INPUT = 40, 41

OPEN = f"""
command -v sbatch >/dev/null || exit {NO_SLURM}
mkdir -p -- "$1" && cd -- "$1" && mkdir -p runs inputs && chmod 700 runs inputs && pwd -P && id -un
"""
"""$1: folder. Prints it as an absolute path, and the user."""

PREPARE = f"""
root=$1; slug=$2; job=$3; shift 3; umask 077
folder_of() {{
    case $1 in
        /*) echo "$1";;
        "~/"*) echo "$HOME/${{1#??}}";;
        */*) echo "$root/inputs/$1";;
        *) newest=$(ls -- "$root/inputs/$1" 2>/dev/null | grep -E '^[0-9]+$' | sort -n | tail -n 1)
           echo "$root/inputs/$1/${{newest:-none}}";;
    esac
}}
for each; do
    [ -d "$(folder_of "${{each#*:}}")/." ] || {{ echo "${{each#*:}}" >&2; exit {NO_INPUT}; }}
done
mkdir -p -- "$root/runs/$slug" && cd -- "$root/runs/$slug" || exit 1
number=$(ls | grep -E '^[0-9]+$' | sort -n | tail -n 1); number=$(( ${{number:-0}} + 1 ))
tries=0
until mkdir "$number" 2>/dev/null; do
    tries=$((tries + 1)); [ "$tries" -lt 50 ] || {{ mkdir "$number"; exit 1; }}
    number=$((number + 1))
done
cd "$number" && mkdir output input || exit 1
for each; do
    place=input/${{each%%:*}}
    mkdir -p -- "$(dirname -- "$place")" && ln -s -- "$(folder_of "${{each#*:}}")" "$place" || exit 1
done
printf '%s' "$job" > job.sh && cat > script.py && echo "$number"
"""
"""$1: root, $2: name, $3: the job's script, then its inputs as PLACE:SOURCE; the source comes in. Prints the number of
the session. SOURCE is a folder, or what was published, as NAME or NAME/VERSION."""

IS_FOLDER = """case $1 in "~/"*) cd -- "$HOME/${1#??}";; *) cd -- "$1";; esac"""

WITHOUT_VARIABLES = """env -i HOME="$HOME" PATH="$PATH" USER="$(id -un)" LOGNAME="$(id -un)" \\
    LANG="${LANG:-C.UTF-8}" ${SLURM_CONF:+SLURM_CONF="$SLURM_CONF"}"""
"""Before a command: it gets no variable of its user's shell."""

SUBMIT = rf"""
cd -- "$1" && shift || exit 1
said=$({WITHOUT_VARIABLES} "$@") || {{ code=$?; printf '%s\n' "$said"; exit $code; }}
job=$(printf '%s\n' "$said" | sed -n 's/^\([0-9][0-9]*\)\(;.*\)\{{0,1\}}$/\1/p' | tail -n 1)
[ -n "$job" ] || exit 0
printf '%s\n' "$job"
printf '%s\n' "$job" > job_id.tmp && mv -f job_id.tmp job_id || :
"""
"""$1: folder of the session, then sbatch and its words. The job has no variable of its user's shell. Prints its number,
which sbatch calls "7" or "7;cluster", beside what a cluster's own sbatch may say; if it failed, all that it said."""

WITHDRAW = """
cd -- "$1" || exit 0
[ ! -e started ] && mkdir claimed 2>/dev/null || [ -e claimed/withdrawn ] || exit 1
: > claimed/withdrawn || :
"""
"""$1: folder of the session. Fails when a job works there."""

SESSIONS = """
cd -- "$1" 2>/dev/null || exit 0
now=$(date +%s)
for number in $(ls | grep -E '^[0-9]+$' | sort -rn); do
    [ -e "$number/claimed/withdrawn" ] && continue
    job=$(cat "$number/job_id" 2>/dev/null || cat "$number/started" 2>/dev/null)
    echo "$number|$job|$(( now - $(stat -c %Y "$number") ))"
    [ -z "$job" ] || break
done
"""
"""$1: folder of a name. Prints NUMBER|JOB|AGE of its sessions, the newest first, down to the first with a job."""

LOOK = """
cd -- "$1" || exit 1
job=$(cat started 2>/dev/null || cat job_id 2>/dev/null)
last=ended; [ -e "$last" ] || last=log
ran=0; [ ! -e started ] || ran=$(( $(stat -c %Y "$last") - $(stat -c %Y started) ))
printf '%s|%s|%s' "$job" "$ran" "$(cat ended 2>/dev/null)"
"""
"""$1: folder of the session. Prints JOB|RAN|EXIT CODE, the first and the last perhaps empty. RAN are the seconds from
its start to its end or, if it left no word of that, to the last that it printed."""

LOG_FROM = """
cd -- "$1" || exit 1
[ -e ended ] && mark=ended || mark=
if [ -e log ]; then tail -c "+$2" log; fi
printf '\\n%s' "$mark"
"""
"""$1: folder of the session, $2: the first byte, from 1. Prints what the log has from there, a line end, and a word."""

WHOLE_LOG = """
cd -- "$1" && [ -e log ] || exit 0
if [ "$(stat -c %s log)" -le 4000000 ]; then cat log; else
    head -c 1000000 log; printf '\\n[… the middle of this log is left out …]\\n'; tail -c 3000000 log
fi
"""

OUTPUTS = """cd -- "$1/output" && find . -type f -printf '%P\\0'"""

PUBLISH = """
cd -- "$1" && sync -- "$2"/* 2>/dev/null
number=$(ls | grep -E '^[0-9]+$' | sort -n | tail -n 1); number=$(( ${number:-0} + 1 ))
until mv -T -n -- "$2" "$number" && [ ! -e "$2" ]; do
    [ -e "$number" ] || exit 1
    number=$((number + 1))
done
echo "$number"
ls | grep -E '^[0-9]+$' | sort -n | head -n "-$3" | while read -r old; do rm -rf -- "$old"; done
find . -mindepth 1 -maxdepth 1 -name '.*' -mtime +7 -exec rm -rf -- {} +
"""
"""$1: folder of the name, $2: what was copied beside its place, $3: how many versions stay. Prints the number.

Uploads that broke off a week ago go, too.
"""

NEWEST_INPUTS = """
cd -- "$1" 2>/dev/null || exit 1
number=$(ls | grep -E '^[0-9]+$' | sort -n | tail -n 1)
[ -n "$number" ] && echo "$number" && find "$number" -maxdepth 1 -type f -printf '%s %P\\n'
"""

BELONGINGS = """
cd -- "$1" || exit 1
for kind in runs inputs; do
    for name in $(ls "$kind"); do
        echo "$kind $(stat -c %Y "$kind/$name") $(du -sk "$kind/$name" | cut -f 1) $name"
    done
done
"""
