"""Analyse a CSV in a session: the data lives in the guest from call to call, what it shows is kept, no network is needed.

Run it with `python examples/analyse_csv.py [CSV] [DIRECTORY]`. The figure needs Matplotlib (`pip install matplotlib`); without
it there is the table only, and the script says so. The numbers in `weather.csv` are made up.
"""

import importlib.util
import pathlib
import sys

from dspex import CodeExecutor, SecurityPolicy
from dspex.execution._displays import save

HERE = pathlib.Path(__file__).parent

LOAD = """
import csv
from collections import defaultdict
rows = list(csv.DictReader(open("data.csv")))
rain = defaultdict(float)
for row in rows:
    rain[row["city"]] += float(row["rain_mm"])
len(rows)
"""

TABLE = """
lines = ["| city | rain in a year, mm |", "|---|---|", *(f"| {city} | {mm:.0f} |" for city, mm in rain.items())]
display({"text/markdown": "\\n".join(lines)}, raw=True)
open("rain.csv", "w").write("\\n".join(f"{city},{mm:.1f}" for city, mm in rain.items()))
max(rain, key=rain.get)
"""

FIGURE = """
import matplotlib.pyplot as plt
for city in rain:
    plt.plot([float(row["mean_c"]) for row in rows if row["city"] == city], label=city)
plt.ylabel("mean temperature, °C"); plt.legend(); plt.show()
"""


def main(source: str, directory: str) -> None:
    drawn = importlib.util.find_spec("matplotlib") is not None
    policy = SecurityPolicy(packages=["matplotlib"] if drawn else [])
    with CodeExecutor(policy=policy, max_concurrency=1) as executor, executor.session() as session:
        print(session.execute(LOAD, files={"data.csv": source}).unwrap(), "rows")
        table = session.execute(TABLE)
        print("the wettest is", table.unwrap())
        print(table.files["rain.csv"].read_text())
        displays = table.displays
        if drawn:
            figure = session.execute(FIGURE)
            figure.unwrap()
            displays += figure.displays
        else:
            print("Matplotlib is not installed here: no figure (pip install matplotlib)")
        print("kept:", *save(displays, directory))


if __name__ == "__main__":
    main(*(sys.argv[1:] + [str(HERE / "weather.csv"), "displays"][len(sys.argv) - 1 :]))
