# SPDX-License-Identifier: Apache-2.0
"""For scripts in the guest: one daemon with several devices, measured with fio in turn, there and back again."""
import glob, json, os, socket, statistics, subprocess, sys, time

RUN = '/tmp/run'
FIO = ('fio --name=job --readonly --direct=1 --ioengine=io_uring --fixedbufs --registerfiles --nonvectored=1 --norandommap'
       ' --randrepeat=0 --invalidate=0 --thread --time_based --group_reporting --disable_slat=1 --disable_bw_measurement=1'
       ' --output-format=json --rw=randread --bs=4k').split()
JOBS = {'4k QD1': '1', '4k QD32': '32'} # the depth, and perhaps more options


def call(**request):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(f'{RUN}/control.sock')
        peer.sendall(json.dumps(request).encode() + b'\n')
        answer = json.loads(peer.makefile().readline())
    if not answer['ok']:
        raise RuntimeError(answer)
    return answer


def daemon(*options):
    """Starts it; returns its pid."""
    os.makedirs(RUN, mode=0o700)
    subprocess.Popen(['erofs-ublk', 'serve', *options], env=dict(os.environ, EROFS_UBLK_RUN=RUN), stdin=subprocess.DEVNULL,
                     start_new_session=True)
    while True:
        try:
            return call(command='ping')['pid']
        except OSError: # not yet
            time.sleep(0.01)


def add(source, **fields):
    device = call(command='add', source=source, **fields)['device']
    with open(f'/sys/block/{os.path.basename(device)}/queue/scheduler', 'w') as f:
        f.write('none')
    return device


def cpu_ns(process):
    return sum(int(open(path).read().split()[0]) for path in glob.glob(f'/proc/{process}/task/*/schedstat'))


def fio(device, depth, runtime):
    done = subprocess.run(FIO + [f'--filename={device}', *f'--iodepth={depth}'.split(), f'--runtime={runtime}ms'],
                          check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(done[done.index('{'):])['jobs'][0]['read']


def warm(devices, runtime):
    """What the compiler needs, and fills page tables."""
    for depth in JOBS.values():
        for device in devices.values():
            last = 0
            for turn in range(10):
                iops = fio(device, depth, runtime)['iops']
                if last and abs(iops / last - 1) < 0.02:
                    break
                last = iops


def measure(process, devices, config, before=lambda name: None, after=lambda name: None):
    """Runs of all jobs over all devices, as dicts. before and after are told the device's name."""
    runs = []
    for round_number in range(1, config['rounds'] + 1):
        for job, depth in JOBS.items():
            for name in devices if round_number % 2 else reversed(devices):
                before(name)
                start = cpu_ns(process)
                read = fio(devices[name], depth, config['runtime_ms'])
                cpu = cpu_ns(process) - start
                after(name)
                runs.append({'job': job, 'variant': name, 'round': round_number, 'iops': read['iops'],
                             'server_us_per_request': cpu / 1000 / read['total_ios']})
                print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    return runs


def report(runs, config, remark=''):
    """The lines of a table in Markdown, and the greatest loss of IOPS of each device against the first."""
    names = list(dict.fromkeys(run['variant'] for run in runs))
    middle = lambda job, name, key: statistics.median(r[key] for r in runs if r['job'] == job and r['variant'] == name)
    lines = [f'Command: `{config["command"]}`; Linux {os.uname().release}, {config["rounds"]} rounds of'
             f' {config["runtime_ms"]} ms in turn, medians{remark}.', '',
             '| job | variant | IOPS | to the first | server µs per request | to the first |', '|---|---|---|---|---|---|']
    losses = dict.fromkeys(names, 0)
    for job in JOBS:
        base = {key: middle(job, names[0], key) for key in ('iops', 'server_us_per_request')}
        for name in names:
            iops, cpu = middle(job, name, 'iops'), middle(job, name, 'server_us_per_request')
            losses[name] = max(losses[name], 1 - iops / base['iops'])
            lines.append(f'| {job} | {name} | {iops:.0f} | {iops / base["iops"] - 1:+.2%} | {cpu:.2f} |'
                         f' {cpu / base["server_us_per_request"] - 1:+.2%} |')
    return lines, losses


def write(name, lines, runs, config):
    text = '\n'.join(lines) + '\n'
    print(text, flush=True)
    with open(f'/out/{name}.md', 'w') as f:
        f.write(text)
    with open(f'/out/{name}.json', 'w') as f:
        json.dump({'config': config, 'kernel': os.uname().release, 'runs': runs}, f, indent=1)
        f.write('\n')
