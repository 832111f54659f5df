"""pandas without its import time: the zygote has imported it, and every fresh guest begins from there.

python examples/preloaded.py
"""

import time

from dspex import CodeExecutor, SecurityPolicy


def main() -> None:
    """Run twenty fresh programs that use pandas, and tell what each took."""
    with CodeExecutor(policy=SecurityPolicy(packages=("pandas",))) as executor:
        program = "pd.DataFrame({'a': xs}).a.sum().item()"
        executor.execute("1", imports=["pandas as pd"]).unwrap()  # the first waits for the zygote's own import
        times = []
        for n in range(20):
            started = time.perf_counter()
            assert executor.execute(program, {"xs": list(range(n))}, imports=["pandas as pd"]).unwrap() == sum(range(n))
            times.append(time.perf_counter() - started)
    print(f"a fresh program with pandas: {sorted(times)[len(times) // 2] * 1000:.1f} ms")


if __name__ == "__main__":
    main()
