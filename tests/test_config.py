"""Wrong settings: each raises an exception that names the setting and says what to do."""
import pytest

import iip
from iip import Config, ConfigError
from iip.drivers import Tunnel
from iip.drivers.base import PythonDriver

WRONG = {
    "address twice": ({"addresses": ("10.0.0.1/24", "10.0.0.1/16")}, "addresses: 10.0.0.1 is given twice; remove one"),
    "IPv6 address twice": ({"addresses": ("fd00::1/64", "fd00:0::1/64")}, "addresses: fd00::1 is given twice; remove"),
    "not an address": ({"addresses": ("10.0.0.300/24",)}, "addresses: '10.0.0.300/24' is not valid .*; write it like"),
    "address with bad prefix": ({"addresses": ("10.0.0.1/33",)}, "addresses: '10.0.0.1/33' is not valid"),
    "group as address": ({"addresses": ("224.0.0.5/24",)}, "addresses: 224.0.0.5 .*use a unicast address"),
    "no address": ({"addresses": ("0.0.0.0/0",)}, "addresses: 0.0.0.0 .*use a unicast address"),
    "MTU for IPv6": ({"addresses": ("fd00::1/64",), "mtu": 1279},
                     r"mtu=1279: IPv6 needs 1280 bytes or more .*raise the MTU or remove fd00::1/64"),
    "MTU too small": ({"mtu": 575}, r"mtu=575: must be from 576 to 65535 \(bytes\)"),
    "MTU too large": ({"mtu": 65536}, "mtu=65536: must be from 576 to 65535"),
    "MTU of a fraction": ({"mtu": 1500.5}, "mtu=1500.5: must be a whole number"),
    "MTU of text": ({"mtu": "1500"}, "mtu='1500': must be from 576"),
    "MTU of a truth": ({"mtu": True}, "mtu=True: must be from 576"),
    "medium": ({"medium": "wifi"}, "medium='wifi': use 'ethernet' or 'ip'"),
    "mac too short": ({"mac": "02:00:00:00:01"}, "mac='02:00:00:00:01': use six hexadecimal bytes, like 02:"),
    "mac not hexadecimal": ({"mac": "02:00:00:00:00:0g"}, "mac=.*use six hexadecimal bytes"),
    "mac of a group": ({"mac": "01:00:5e:00:00:01"}, "mac=.*group or zero address.*first byte is even"),
    "mac of zeros": ({"mac": "00:00:00:00:00:00"}, "mac=.*group or zero address"),
    "gateway": ({"gateway": "10.0.0"}, "gateway: '10.0.0' is not valid"),
    "gateway of IPv6": ({"gateway": "fd00::1"}, "gateway=fd00::1: must be an IPv4 address"),
    "gateway6 of IPv4": ({"gateway6": "10.0.0.1"}, "gateway6=10.0.0.1: must be an IPv6 address"),
    "route": ({"routes": (("10.1.0.0/99", "10.0.0.1"),)}, "routes: '10.1.0.0/99' is not valid .*write it like"),
    "route over another version": ({"routes": (("10.1.0.0/16", "fd00::1"),)},
                                   "routes: next hop fd00::1 is of another IP version than 10.1.0.0/16"),
    "group": ({"multicast": ("10.0.0.1",)}, "multicast: 10.0.0.1 is not a group address"),
    "group of text": ({"multicast": ("all",)}, "multicast: 'all' is not valid .*write it like"),
    "packet size": ({"packet_size": 2000}, "packet_size=2000: use a multiple of 64 bytes"),
    "headroom": ({"packet_size": 256, "headroom": 192}, "headroom=192: leaves less than 128 bytes of the 256"),
    "headroom too small": ({"headroom": 64}, "headroom=64: must be from 128"),
    "rto": ({"rto_min": 3.0, "rto_max": 2.0}, "rto_min=3.0: must not exceed rto_max=2.0"),
    "mss too large": ({"mss": 1461}, "mss=1461: must be 0 or from 64 to mtu - 40 = 1460"),
    "mss too small": ({"mss": 63}, "mss=63: must be 0 or from 64"),
    "ports upside down": ({"ports": (60000, 50000)}, r"ports=\(60000, 50000\): use \(low, high\) with 1 <= low"),
    "port 0": ({"ports": (0, 10)}, r"ports=\(0, 10\): use \(low, high\)"),
    "port too high": ({"ports": (1, 65536)}, r"ports=\(1, 65536\): use"),
    "ttl": ({"ttl": 0}, "ttl=0: must be from 1 to 255"),
    "no packets": ({"pool_packets": 0}, "pool_packets=0: must be from 16"),
    "no connections": ({"max_connections": 0}, "max_connections=0: must be from 1"),
    "send buffer": ({"send_buffer": 100}, "send_buffer=100: must be from 2048"),
    "receive buffer": ({"receive_buffer": 1 << 31}, "receive_buffer=2147483648: must be from 2048 to 1073741824"),
    "time": ({"delayed_ack": 1}, "delayed_ack=1: must be from 0 to 0.5 .*seconds"),
    "probing": ({"mtu_probing": True}, "mtu_probing=True: use 'off', 'blackhole' or 'always'"),
    "unsent_low": ({"unsent_low": -1}, "unsent_low=-1: must be from 0"),
    "quick acks": ({"quick_acks": 1001}, "quick_acks=1001: must be from 0 to 1000 .*segments"),
    "negative time": ({"time_wait": -1}, "time_wait=-1: must be from 0 to 240"),
    "not a number": ({"time_wait": float("nan")}, "time_wait=nan: must be from 0 to 240"),
}


@pytest.mark.parametrize("settings,message", WRONG.values(), ids=WRONG)
def test_wrong_setting(settings, message):
    with pytest.raises(ConfigError, match=message):
        Config(**settings)


def test_unknown_setting():
    with pytest.raises(TypeError, match="no_such_thing"):
        Config(no_such_thing=1)


def test_replace_checks_again():
    config = Config(addresses="10.0.0.1/24")
    assert config.addresses == ("10.0.0.1/24",)
    assert config.replace(mtu=1400).mtu == 1400
    with pytest.raises(ConfigError, match="mtu=1"):
        config.replace(mtu=1)


def test_settings_cannot_change_afterwards():
    with pytest.raises(AttributeError):
        Config().mtu = 9000


def test_config_errors_are_value_errors():
    assert issubclass(ConfigError, ValueError)
    assert issubclass(ConfigError, iip.IipError)


def test_unknown_congestion_control():
    with pytest.raises(ConfigError, match="congestion='vegas': unknown algorithm; choose 'newreno'"):
        iip.Engine(Config(congestion="vegas"), iip.Handler(), Tunnel())


def test_mtu_beyond_the_drivers():
    with pytest.raises(ConfigError, match=r"mtu=1400: the driver's device takes 1300 bytes; use mtu=1300 or raise"):
        iip.Engine(Config(mtu=1400), iip.Handler(), Tunnel(mtu=1300))


def test_mtu_of_the_driver_is_taken():
    engine = iip.Engine(Config(addresses="10.0.0.1/24"), iip.Handler(), Tunnel(mtu=1300))
    assert engine.config.mtu == 1300
    assert engine.config.medium == "ip"
    engine.close()


def test_mtu_of_the_driver_too_small_for_ipv6():
    with pytest.raises(ConfigError, match="mtu=1000: IPv6 needs 1280"):
        iip.Engine(Config(addresses="fd00::1/64"), iip.Handler(), Tunnel(mtu=1000))


@pytest.mark.parametrize("settings,message", [({"mtu": 100}, "mtu=100: must be from 576 to 65535"),
                                              ({"medium": "air"}, "medium='air': use 'ethernet' or 'ip'")])
def test_wrong_setting_of_a_driver(settings, message):
    with pytest.raises(ConfigError, match=message):
        Tunnel(**settings)
    with pytest.raises(ConfigError, match=message):
        PythonDriver(**settings)


def test_driver_of_two_engines():
    driver = Tunnel()
    engine = iip.Engine(Config(), iip.Handler(), driver)
    with pytest.raises(ConfigError, match="driver: already attached to another engine; make one driver per engine"):
        iip.Engine(Config(), iip.Handler(), driver)
    engine.close()


def test_not_a_driver():
    with pytest.raises(TypeError):
        iip.Engine(Config(), iip.Handler(), object())


def test_no_group_to_join():
    engine = iip.Engine(Config(addresses="10.0.0.1/24"), iip.Handler(), Tunnel())
    with pytest.raises(ConfigError, match=r"group: cannot join 10.0.0.9; it must be a multicast address"):
        engine.join("10.0.0.9")
    engine.close()
