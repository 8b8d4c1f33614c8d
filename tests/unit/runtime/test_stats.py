"""Numbers of a group from files as the kernel writes them."""

from scow.runtime.stats import UNLIMITED, host_memory, read_stats, system_cpu_usage


def put(folder, files):
    for name, text in files.items():
        (folder / name).write_text(text)
    return lambda _controller: str(folder)


def test_v1_numbers(tmp_path):
    folder = put(
        tmp_path,
        {
            "cpuacct.usage": "3000\n",
            "cpuacct.usage_sys": "1000\n",
            "cpuacct.usage_user": "2000\n",
            "cpuacct.usage_percpu": "1500 1500 \n",
            "cpu.stat": "nr_periods 9\nnr_throttled 4\nthrottled_time 77\n",
            "memory.usage_in_bytes": "4096\n",
            "memory.max_usage_in_bytes": "8192\n",
            "memory.failcnt": "1\n",
            "memory.limit_in_bytes": "65536\n",
            "memory.stat": "cache 1\ntotal_inactive_file 2\n",
            "pids.current": "3\n",
            "pids.max": "10\n",
            "blkio.throttle.io_service_bytes_recursive": "8:0 Read 100\n8:0 Write 200\nTotal 300\n",
            "blkio.throttle.io_serviced_recursive": "8:0 Read 1\n",
        },
    )
    found = read_stats(folder, lambda _controller: 1)
    assert found["cpu_stats"]["cpu_usage"] == {
        "total_usage": 3000,
        "usage_in_kernelmode": 1000,
        "usage_in_usermode": 2000,
        "percpu_usage": [1500, 1500],
    }
    assert found["cpu_stats"]["throttling_data"] == {"periods": 9, "throttled_periods": 4, "throttled_time": 77}
    assert found["memory_stats"] == {
        "usage": 4096,
        "max_usage": 8192,
        "failcnt": 1,
        "limit": 65536,
        "stats": {"cache": 1, "total_inactive_file": 2},
    }
    assert found["pids_stats"] == {"current": 3, "limit": 10}
    assert found["blkio_stats"]["io_service_bytes_recursive"] == [
        {"major": 8, "minor": 0, "op": "read", "value": 100},
        {"major": 8, "minor": 0, "op": "write", "value": 200},
    ]
    assert found["blkio_stats"]["io_serviced_recursive"] == [{"major": 8, "minor": 0, "op": "read", "value": 1}]


def test_v2_numbers(tmp_path):
    folder = put(
        tmp_path,
        {
            "cpu.stat": "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 2\nnr_throttled 1\nthrottled_usec 5\n",
            "memory.current": "4096\n",
            "memory.max": "max\n",
            "memory.stat": "anon 5\ninactive_file 6\n",
            "pids.current": "1\n",
            "pids.max": "max\n",
            "io.stat": "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n7:0 \n",
        },
    )
    found = read_stats(folder, lambda _controller: 2)
    assert found["cpu_stats"]["cpu_usage"] == {
        "total_usage": 30_000,
        "usage_in_kernelmode": 10_000,
        "usage_in_usermode": 20_000,
    }
    assert found["cpu_stats"]["throttling_data"]["throttled_time"] == 5_000
    assert found["memory_stats"] == {"usage": 4096, "limit": host_memory(), "stats": {"anon": 5, "inactive_file": 6}}
    assert found["pids_stats"] == {"current": 1, "limit": UNLIMITED}
    assert found["blkio_stats"]["io_serviced_recursive"] == [
        {"major": 254, "minor": 0, "op": "read", "value": 1},
        {"major": 254, "minor": 0, "op": "write", "value": 2},
    ]


def test_a_group_that_has_gone_reads_as_idle(tmp_path):
    for where in (1, 2):
        for folder in (lambda _controller: f"{tmp_path}/gone", lambda _controller: None):
            found = read_stats(folder, lambda _controller, where=where: where)
            assert found["cpu_stats"]["cpu_usage"]["total_usage"] == 0
            assert found["memory_stats"]["usage"] == 0
            assert found["pids_stats"]["current"] == 0
            assert found["blkio_stats"]["io_service_bytes_recursive"] == []


def test_the_host_clock_runs():
    first = system_cpu_usage()
    assert first > 0
    assert system_cpu_usage() >= first
