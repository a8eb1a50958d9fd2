"""Formats the results as Markdown."""

from .figures import CPU_CASES, FAN_CASES, THROUGHPUT_CASES


def tables(results):
    lines = ['# Results', '', 'Written by `benches/scale-out/run`; see README.md.', '']
    lines += ['| | version |', '|---|---|'] + [f'| {name} | {text} |' for name, text in results['versions'].items()]
    if 'figures' in results:
        lines += figures(results['figures'])
    if 'instructions' in results:
        lines += instructions(results['instructions'])
    if 'faults' in results:
        lines += faults(results['faults'])
    if 'resubscription' in results:
        lines += resubscription(results['resubscription'])
    if 'memory' in results:
        lines += memory(results['memory'])
    return '\n'.join(lines) + '\n'


def where(part):
    machine = part['machine']
    return [f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, load average "
            f"{machine['load_before']} before and {machine['load_after']} after.", '']


def table(head, rows):
    return ['| ' + ' | '.join(head) + ' |', '|' + '---|' * len(head)] + ['| ' + ' | '.join(row) + ' |' for row in rows] + ['']


def number(value, digits=1):
    if value is None:
        return '-'
    text = f'{value:,.{digits}f}'
    return text.replace(',', ' ')


def figures(part):
    found = part['summary']
    lines = ['', '## CPU, latency, throughput', ''] + where(part)
    lines += [f"Medians of {part['rounds']} interleaved rounds of {part['seconds']:g} s.", '']
    lines += ['### Microseconds of CPU of the server for each publication of 64 B to a topic with one member: added by the broker '
              '(without it; Redis itself)', '']
    head = ['', *(title for title, _ in CPU_CASES.values())]
    rows = []
    for peer in next(iter(found['cpu'].values())):
        for link in ('tcp', 'unix'):
            cells = []
            for case in CPU_CASES:
                figures = found['cpu'][case][peer]
                own = figures[link]
                cells.append(f"**{number(own['added_us'], 2)}** ({number(figures['none'], 2)}; {number(own['redis_us'], 2)})")
            rows.append([f'{peer}, {link}', *cells])
    lines += table(head, rows)
    lines += ['### Latency in 50 topics at half of the rate that the same peer reaches with the broker: microseconds added '
              '(without it)', '']
    rows = []
    for peer, figures in found['latency'].items():
        for link in ('tcp', 'unix'):
            own, plain = figures[link], figures['none']
            rows.append([f'{peer}, {link}', number(own['rate'], 0), *(
                f"**{number(own[f'added_{name}'], 0)}** ({number(plain[name], 0)})" for name in ('p50', 'p99'))])
    lines += table(['', 'messages/s', 'p50', 'p99'], rows)
    lines += ['### One topic: microseconds of CPU for each delivery, one process without a broker and two with it (half of the '
              'members each); last, two processes without a broker, each with its own sender', '']
    rows = [[peer, *(f"**{number(cell['ratio'], 2)}** ({number(cell['one_us'], 2)} / {number(cell['two_us'], 2)} / {number(cell['apart_us'], 2)})"
                     for cell in (found['fan'][case][peer] for case in FAN_CASES))]
            for peer in next(iter(found['fan'].values()))]
    lines += table(['', *FAN_CASES], rows)
    lines += ['### Two processes on one core, one Redis: publications per second, each delivered by both (microseconds of CPU for '
              'each publication: both servers together; Redis)', '']
    rows = []
    for peer in next(iter(found['throughput'].values())):
        for link in ('tcp', 'unix'):
            rows.append([f'{peer}, {link}', *(
                f"**{number(cell['per_second'], 0)}** ({number(cell['us'], 2)}; {number(cell['redis_us'], 2)})"
                for cell in (found['throughput'][case][peer][link] for case in THROUGHPUT_CASES))])
    lines += table(['', *THROUGHPUT_CASES], rows)
    return lines + [f'- not measured: {failure}' for failure in part['failures']]


def instructions(part):
    lines = ['', '## Instructions of wsloop for each publication (user space, by callgrind; Unix socket)', ''] + where(part)
    if 'failure' in part:
        return lines + [part['failure']]
    rows = [[CPU_CASES[case][0], number(cell['none'], 0), number(cell['broker'], 0), f"**{number(cell['added'], 0)}**"]
            for case, cell in part['cases'].items()]
    return lines + table(['', 'without', 'with the broker', 'added'], rows)


def faults(part):
    titles = {'kill': 'kill -9 of Redis, and a new one after 10 s', 'stop': 'SIGSTOP of Redis for 10 s',
              'cut': 'cut for 10 s: no byte and no end of a connection arrives'}
    lines = ['', '## Redis is away for 10 s', ''] + where(part)
    rows = []
    for fault, peers in part['faults'].items():
        for peer, cell in peers.items():
            rows.append([titles[fault], peer, number(cell['sent'], 0), f"**{number(cell['silent_losses'], 0)}**",
                         f"{cell['closed']} {','.join(map(str, cell['codes']))}", number(cell['whole_ms'], 0),
                         f"{number(cell['echo_p99_before_ms'])} / {number(cell['echo_p99_during_ms'])}"])
    return lines + table(['fault', '', 'messages', 'silent losses', 'members closed, codes', 'ms until both directions work',
                          'ms, p99 of an echo: before / during'], rows)


def resubscription(part):
    lines = ['', '## 10 000 topics, Redis is killed and starts again after 2 s', ''] + where(part)
    rows = [[peer, number(cell['first_ms'], 0), number(cell['whole_ms'] - cell['first_ms'], 0), number(cell['whole_ms'], 0)]
            if 'whole_ms' in cell else [peer, cell['failure'], '', ''] for peer, cell in part['peers'].items()]
    return lines + table(['', 'ms until the first subscription', 'until the last', 'together'], rows)


def memory(part):
    lines = ['', '## Memory while 200 clients publish as fast as they can and Redis is away for 10 s', ''] + where(part)
    rows = []
    for fault, peers in part['memory'].items():
        for peer, cell in peers.items():
            values = [number(cell[key] / 1e6) for key in ('before', 'growth', 'growth_after_return', 'back')] \
                if 'before' in cell else [cell['failure'], '', '', '']
            rows.append([{'stop': 'SIGSTOP', 'kill': 'kill -9'}[fault], peer, *values])
    return lines + table(['fault', '', 'MB before', 'growth during', 'growth in the 10 s after', 'growth after that'], rows)
