"""Formats the results as JSON, Markdown tables and an SVG chart."""

import datetime
import json
import os
import platform
import re
from pathlib import Path

RESULTS = Path(__file__).resolve().parent.parent / 'results'


def machine():
    cpu = re.search(r'model name\s*: (.*)', Path('/proc/cpuinfo').read_text())
    return {
        'date': datetime.date.today().isoformat(),
        'cpu': cpu[1] if cpu else platform.machine(),
        'cores': os.cpu_count(),
        'kernel': platform.release(),
    }


def write(results, folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'results.json').write_text(json.dumps(results, indent=1) + '\n')
    (folder / 'results.md').write_text(tables(results))
    (folder / 'chart.svg').write_text(chart(results))
    print(f'written: {folder}/results.json, results.md, chart.svg')


def tables(results):
    machine = results['machine']
    lines = [
        '# Results', '',
        f"{machine['date']}, {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}; "
        f"medians of {results['rounds']} rounds of {results['seconds']:g} s. Server on one core, load on another. "
        'Written by `benches/compare/run`. Bold: the best peer except the ceiling; for CPU, the one with the lowest ratio.', '',
        '| peer | version | what |', '|---|---|---|',
    ]
    for name, facts in results['peers'].items():
        version = facts['version'] or f"not measured: {facts['failure']}"
        lines.append(f"| {name} | {version} | {facts['what']} |")
    groups = [
        ('Echo: server CPU microseconds per message (in brackets: median of the ratios to the ceiling in the same round)', 'echo', 'cpu_us', cpu_cell, min),
        ('Echo: messages per second', 'echo', 'per_second', rate_cell, max),
        ('Broadcast: deliveries per second', 'broadcast', 'per_second', rate_cell, max),
        ('Broadcast: server CPU microseconds per delivery (in brackets: the ratios as above)', 'broadcast', 'cpu_us', cpu_cell, min),
        ('Memory: resident bytes per connection', 'memory', 'bytes', bytes_cell, min),
        ('Start: milliseconds until it listens', 'start', 'milliseconds', ms_cell, min),
        ('Start: resident bytes', 'start', 'bytes', bytes_cell, min),
    ]
    for title, prefix, key, cell, best in groups:
        chosen = [(name, column) for name, column in results['columns'].items() if name.startswith(prefix)]
        if chosen:
            lines += ['', f'## {title}', ''] + table(results, chosen, key, cell, best)
    lines += failures(results)
    lines += scale_tables(results.get('scale'))
    return '\n'.join(lines) + '\n'


def table(results, chosen, key, cell, best):
    lines = ['| | ' + ' | '.join(short(column['title']) for _, column in chosen) + ' |',
             '|---|' + '---|' * len(chosen)]
    for name in results['peers']:
        row = []
        for _, column in chosen:
            found = {peer: figures for peer, figures in column['peers'].items() if key in figures}
            if name not in found:
                row.append('-')
                continue
            text = cell(found[name][key], found[name].get('cpu_ratio'))
            row.append(f'**{text}**' if name == leader(found, key, best) else text)
        lines.append(f'| {name} | ' + ' | '.join(row) + ' |')
    return lines


def leader(found, key, best):
    """Returns the best peer of a column. The ceiling is the reference and does not count."""
    rivals = {peer: figures for peer, figures in found.items() if peer != 'ceiling'}
    rank = 'cpu_ratio' if key == 'cpu_us' and all('cpu_ratio' in figures for figures in rivals.values()) else key
    return best(rivals, key=lambda peer: rivals[peer][rank], default=None)


def short(title):
    return re.sub(r'^(Echo|Broadcast|Memory of an idle connection|Start)[:,]? ?', '', title)


def cpu_cell(value, to_ceiling):
    ratio = f' ({to_ceiling:.2f})' if to_ceiling else ''
    return f'{value:.3g}{ratio}' if value < 100 else f'{value:.0f}{ratio}'


def rate_cell(value, _):
    if value >= 1e6:
        return f'{value / 1e6:.2f} M'
    return f'{value / 1e3:.1f} k' if value >= 1e3 else f'{value:.0f}'


def bytes_cell(value, _):
    return f'{value:,.0f}'.replace(',', ' ')


def ms_cell(value, _):
    return f'{value:.1f}'


def failures(results):
    lines = []
    for column in results['columns'].values():
        for name, figures in column['peers'].items():
            if 'failure' in figures and not results['peers'][name]['failure']:
                lines.append(f"- {name}, {column['title']}: {figures['failure']}")
    return ['', '## Failed measurements', ''] + lines if lines else []


def scale_tables(scale):
    lines = []
    for part in scale or []:
        lines += ['', f"## {part['title']}", '', '| ' + ' | '.join(part['head']) + ' |', '|---' * len(part['head']) + '|']
        lines += ['| ' + ' | '.join(str(cell) for cell in row) + ' |' for row in part['rows']]
    return lines


COLOURS = {'wsloop': '#e4572e', 'ceiling': '#8a8f98', 'uWebSockets': '#2e86ab', 'fastwebsockets': '#76b041',
           'tokio-tungstenite': '#a06cd5',
           'tokio-tungstenite, 8 KiB buffer': '#d0b3ec', 'npm ws': '#f2a541', 'libwebsockets': '#3aaf9f'}


def chart(results):
    """Returns a bar chart: CPU per echoed message relative to the ceiling, deliveries relative to the best peer."""
    groups = []
    for key, column in results['columns'].items():
        if key.startswith('echo'):
            values = {name: figures['cpu_ratio'] for name, figures in column['peers'].items() if 'cpu_ratio' in figures}
            if values:
                groups.append((short(column['title']), values, 'cpu'))
        if key.startswith('broadcast'):
            values = {name: figures['per_second'] for name, figures in column['peers'].items()
                      if 'per_second' in figures and name != 'ceiling'}
            unit = max(values.values(), default=None)
            if unit:
                groups.append((short(column['title']), {name: value / unit for name, value in values.items()}, 'rate'))
    return svg(groups, results)


def svg(groups, results):
    bar, gap, head, width, left = 13, 20, 26, 900, 380
    out, top = [], 94
    for kind, title in [('cpu', 'Echo: server CPU per message, relative to the ceiling (less is better; bars end at 6)'),
                        ('rate', 'Broadcast: deliveries per second, relative to the best peer (more is better)')]:
        chosen = [group for group in groups if group[2] == kind]
        if not chosen:
            continue
        out.append(f'<text class="h" x="16" y="{top + 14}">{title}</text>')
        top += head + 8
        largest = 6 if kind == 'cpu' else 1
        for label, values, _ in chosen:
            out.append(f'<text x="{left - 12}" y="{top + len(values) * bar / 2 + 4}" text-anchor="end">{escape(label)}</text>')
            for name, value in values.items():
                length = max(2, min(value, largest) / largest * (width - left - 90))
                out.append(f'<rect x="{left}" y="{top}" width="{length:.1f}" height="{bar - 2}" rx="2" fill="{COLOURS.get(name, "#999")}"/>')
                out.append(f'<text class="v" x="{left + length + 5:.1f}" y="{top + bar - 3}">{value:.2f}</text>')
                top += bar
            top += gap
    legend, x, y = [], 16, 42
    for name in results['peers']:
        wide = 30 + 7.4 * len(name)
        if x + wide > width:
            x, y = 16, y + 18
        legend.append(f'<rect x="{x:.1f}" y="{y}" width="11" height="11" rx="2" fill="{COLOURS.get(name, "#999")}"/>'
                      f'<text x="{x + 16:.1f}" y="{y + 10}">{escape(name)}</text>')
        x += wide
    machine = results['machine']
    caption = f"WebSocket servers on one core, {machine['date']}, {machine['cpu']}"
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" height="{top}" role="img" '
            f'aria-label="{escape(caption)}">\n<style>text{{font:12px system-ui,sans-serif;fill:#333}}'
            '.h{font-weight:600;font-size:14px}.v{font-size:10px}.b{fill:#fff}'
            '@media(prefers-color-scheme:dark){text{fill:#ddd}.b{fill:#16181d}}</style>\n'
            f'<rect class="b" width="{width}" height="{top}" rx="8"/>\n<text class="h" x="16" y="26">{escape(caption)}</text>\n'
            + '\n'.join(legend + out) + '\n</svg>\n')


def escape(text):
    return text.replace('&', '&amp;').replace('<', '&lt;').replace('"', '&quot;')
