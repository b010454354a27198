"""Addresses that must not be reached, as data: what a customer may try, and what each door says to it.

A URL that its text gives away is refused at creation with a code, and at an attempt (it may have been stored by another
rule). One that only its name servers give away is stored, and falls at each attempt.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    url: str
    code: str | None
    """What creation says; None where it stores the endpoint."""
    answers: tuple[str, ...] = ()
    """What the name's servers say."""

    @property
    def error(self) -> str:
        """What an attempt says."""
        return "invalid_url" if self.code in {"invalid_url", "too_long"} else "egress_blocked"


# ------------------------------------------------------------------------- hosts of https://…/, by what creation says

HOSTS = {
    # every special network, plain
    "host_not_allowed": """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.1.2.3 127.255.255.255
    169.254.0.1 169.254.255.255 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.8 192.0.0.170 192.0.2.1 192.31.196.1
    192.52.193.1 192.88.99.1 192.168.0.1 192.168.255.255 192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.1
    203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255
    [::] [::1] [100::1] [100:0:0:1::1] [2001::1] [2001:1::1] [2001:2::1] [2001:3::1] [2001:4:112::1] [2001:10::1]
    [2001:20::1] [2001:30::1] [2001:db8::1] [2620:4f:8000::1] [3fff::1] [5f00::1] [4000::1] [e000::1] [fc00::1]
    [fd12:3456::1] [fe80::1] [febf::1] [fec0::1] [ff02::1] [ff0e::1]

    169.254.169.254 169.254.170.2 169.254.170.23 169.254.169.253 169.254.169.123 169.254.0.23 168.63.129.16
    100.100.100.200 192.0.0.192 [fd00:ec2::254] [fd00:ec2::23] [fd20:ce::254] [fe80::a9fe:a9fe]

    127.1 127.0.1 0 2130706433 0x7f000001 0x7f.0x0.0x0.0x1 0x7F.1 0177.0.0.1 0177.1 017700000001 127.0.0.01
    127.0.0.0x1 0x7f.0.1 00000177.0.0.1 0300.0250.0.1 3232235521 0xc0a80001 2852039166 0xa9fea9fe 0xa9.0xfe.0xa9.0xfe
    0251.0376.0251.0376 025177524776 169.254.43518 169.16689662 10.1 0xa000001 012.0.0.1 256.256.256.256 1.2.3.4.5
    4294967296 127.0.0.1. 127.0.0.1.0 0x 999999999999 1.1.1.08 8.8.8.0x8 134744072

    [::ffff:127.0.0.1] [::ffff:7f00:1] [::FFFF:7F00:0001] [0:0:0:0:0:ffff:127.0.0.1]
    [0000:0000:0000:0000:0000:FFFF:7f00:0001] [::ffff:169.254.169.254] [::ffff:a9fe:a9fe] [::ffff:10.0.0.1]
    [::ffff:192.168.0.1] [::ffff:172.16.0.1] [::ffff:0.0.0.0] [::ffff:100.100.100.200] [::ffff:168.63.129.16]
    [::127.0.0.1] [::7f00:1] [::169.254.169.254] [::10.0.0.1] [::8.8.8.8] [::ffff:0:127.0.0.1] [::ffff:0:8.8.8.8]
    [::ffff:0:a9fe:a9fe]

    [2002:7f00:1::] [2002:7f00:1::1] [2002:a9fe:a9fe::] [2002:a00:1::] [2002:c0a8:1::] [2002:808:808::]
    [64:ff9b::127.0.0.1] [64:ff9b::7f00:1] [64:ff9b::a9fe:a9fe] [64:ff9b::10.0.0.1] [64:ff9b::192.168.0.1]
    [64:ff9b::100.100.100.200] [64:ff9b::168.63.129.16] [64:ff9b::0.0.0.0]
    [64:ff9b:1::7f00:1] [64:ff9b:1::a9fe:a9fe] [64:ff9b:1::8.8.8.8] [64:ff9b:1:7f00:0:100::] [64:ff9b:0:1::7f00:1]
    [2001:0:4136:e378:8000:63bf:80ff:fffe] [2001:0:7f00:1::] [2001:0:a9fe:a9fe::1] [2001:0:53aa:64c::]
    [2606:4700::5efe:127.0.0.1] [2606:4700::200:5efe:169.254.169.254] [2a00::5efe:10.0.0.1] [fe80::5efe:7f00:1]

    [fe80::1%25eth0] [fe80::1%eth0] [fe80::a9fe:a9fe%251] [::1%25lo] [2606:4700::1111%25eth0] [::ffff:127.0.0.1%251]

    localhost LOCALHOST localhost. localhost.localdomain app.localhost a.b.localhost. ip6-localhost broadcasthost
    metadata metadata.google.internal METADATA.GOOGLE.INTERNAL. metadata.goog instance-data instance-data.ec2.internal
    metadata.tencentyun.com metadata.platformequinix.com kubernetes.default.svc.cluster.local db.internal redis postgres
    host.docker.internal gateway.docker.internal printer.local nas.lan mail.corp router.home.arpa router.home
    vault.private ip-10-0-0-1.ec2.internal wiki.intranet

    １２７.０.０.１ 127。0。0。1 127．0．0．1 127｡0｡0｡1 ①②⑦.⓪.⓪.① １６９.２５４.１６９.２５４ ⑯⑨.254.169.254
    𝟙𝟚𝟟.𝟘.𝟘.𝟙 𝟏𝟐𝟕.𝟏 ０ｘ７ｆ.１ [::ffff:１２７.0.0.1] ⓛⓞⓒⓐⓛⓗⓞⓢⓣ ｌｏｃａｌｈｏｓｔ 𝓵𝓸𝓬𝓪𝓵𝓱𝓸𝓼𝓽 ℓocalhost locaℓhost
    ⓜⓔⓣⓐⓓⓐⓣⓐ.ⓖⓞⓞⓖⓛⓔ.ⓘⓝⓣⓔⓡⓝⓐⓛ metadata。google。internal xn--localhost ²130706433 db.ⅰnternal
    """,
    # what no parser should have to guess at
    "invalid_url": """
    %6c%6f%63alhost 127.0.0.1%2eexample.com 127%2e0%2e0%2e1 %31%32%37.0.0.1 169.254.169.254%00.example.com
    receiver.example.com%0d%0a receiver.example.com%09 receiver%2f.example.com 127.0.0.1%20 %5b::1%5d
    [127.0.0.1] [localhost] [::1 ::1] [::1]127.0.0.1 127.0.0.1[::1] [[::1]] [::1]] [] [:] [:::1] [1::2::3]
    [::ffff:127.0.0.256] [::ffff:127.1] [::ffff:0177.0.0.1] [::ffff:0x7f000001] [12345::1] [g::1] [v1.a] [v6.::1]
    ::1 ::ffff:127.0.0.1 2606:4700::1111
    receiver..example.com .receiver.example.com .. . -receiver.example.com receiver-.example.com
    receiver.example.com:99999 receiver.example.com:x receiver.example.com:-1 receiver.example.com:443:443
    receiver.example.com:+443 receiver.example.com:４４３ receiver.example.com:0x1bb receiver.example.com:000000443
    169.254.169.254:80:443 [2606:4700::1111]:+443
    receiver.example.com\\@127.0.0.1 127.0.0.1\\.example.com receiver.example.com\\.169.254.169.254 \\127.0.0.1
    receiver／.example.com receiver＼.example.com receiver？.example.com receiver＃.example.com receiver＠127.0.0.1
    receiver：80.example.com ℀.example.com ㏂.example.com local\u00adhost local\u200bhost local\u2060host
    receiver\ufeff.example.com receiver\u202e.example.com * *.example.com receiver,example.com a;b.example.com receiver!
    (127.0.0.1)
    """,
    "userinfo_not_allowed": """
    user@127.0.0.1 user:password@receiver.example.com receiver.example.com@169.254.169.254 @127.0.0.1 :@127.0.0.1
    receiver.example.com:443@127.0.0.1 receiver.example.com:443@127.0.0.1:80 127.0.0.1@receiver.example.com
    1.1.1.1%2f@127.0.0.1 receiver.example.com%23@127.0.0.1 receiver.example.com%3f@127.0.0.1 a@b@127.0.0.1
    user@[::1] receiver.example.com;@127.0.0.1
    """,
    "port_not_allowed": """
    receiver.example.com:0 receiver.example.com:22 receiver.example.com:25 receiver.example.com:53
    receiver.example.com:2375 receiver.example.com:3306 receiver.example.com:5432 receiver.example.com:6379
    receiver.example.com:9200 receiver.example.com:11211 receiver.example.com:65535 8.8.8.8:22 8.8.8.8:6379
    [2606:4700::1111]:25 [64:ff9b::8.8.8.8]:22 [::ffff:8.8.8.8]:6379
    """,
}

# ----------------------------------------------------------------------------------------------- whole URLs, likewise

URLS = [
    ("host_not_allowed", "https://127.0.0.1:443/"),
    ("host_not_allowed", "https://127.0.0.1:0443/"),
    ("host_not_allowed", "https://169.254.169.254:8080/latest/api/token"),
    ("host_not_allowed", "https://[::1]:8443/"),
    ("host_not_allowed", "HTTPS://127.0.0.1/"),
    ("host_not_allowed", "https://127.0.0.1?x=receiver.example.com"),
    ("host_not_allowed", "https://127.0.0.1/?@receiver.example.com"),
    ("host_not_allowed", "https://127.0.0.1:6379/"),
    ("host_not_allowed", "https://127.0.0.1/%0d%0aHost:%20receiver.example.com"),
    ("scheme_not_allowed", "http://127.0.0.1/"),
    ("scheme_not_allowed", "http://169.254.169.254/latest/meta-data/iam/security-credentials/"),
    ("scheme_not_allowed", "http://metadata.google.internal/computeMetadata/v1/"),
    ("scheme_not_allowed", "http://100.100.100.200/latest/meta-data/"),
    ("scheme_not_allowed", "http://192.0.0.192/opc/v2/instance/"),
    ("scheme_not_allowed", "http://169.254.170.2/v2/credentials/"),
    ("scheme_not_allowed", "http://169.254.169.254/metadata/v1.json"),
    ("scheme_not_allowed", "http://receiver.example.com/"),
    ("scheme_not_allowed", "ftp://127.0.0.1/"),
    ("scheme_not_allowed", "file:///etc/passwd"),
    ("scheme_not_allowed", "gopher://127.0.0.1:6379/_FLUSHALL"),
    ("scheme_not_allowed", "dict://127.0.0.1:11211/stats"),
    ("scheme_not_allowed", "unix:///var/run/docker.sock"),
    ("scheme_not_allowed", "http+unix://%2fvar%2frun%2fdocker.sock/"),
    ("scheme_not_allowed", "ws://127.0.0.1/"),
    ("scheme_not_allowed", "wss://127.0.0.1/"),
    ("scheme_not_allowed", "jar:https://127.0.0.1!/"),
    ("scheme_not_allowed", "data:text/plain,x"),
    ("scheme_not_allowed", "javascript:alert(1)"),
    ("scheme_not_allowed", "//127.0.0.1/"),
    ("scheme_not_allowed", "127.0.0.1"),
    ("scheme_not_allowed", "/latest/meta-data"),
    ("scheme_not_allowed", "?"),
    ("invalid_url", "https:127.0.0.1"),
    ("invalid_url", "https:/127.0.0.1/"),
    ("invalid_url", "https:///127.0.0.1/"),
    ("invalid_url", "https:////127.0.0.1/"),
    ("invalid_url", "https:\\\\127.0.0.1\\"),
    ("invalid_url", "https://"),
    ("invalid_url", "https://?x"),
    ("invalid_url", "https://:443/"),
    ("invalid_url", " https://127.0.0.1/"),
    ("invalid_url", "https://127.0.0.1/ "),
    ("invalid_url", "\thttps://127.0.0.1/"),
    ("invalid_url", "ht\ttps://127.0.0.1/"),
    ("invalid_url", "https://127.0.\t0.1/"),
    ("invalid_url", "https://127.0.0.1\r\nhost: receiver.example.com/"),
    ("invalid_url", "https://receiver.example.com/\r\n\r\nGET / HTTP/1.1\r\n"),
    ("invalid_url", "https://receiver.example.com/\n"),
    ("invalid_url", "https://receiver.example.com\x0b/"),
    ("invalid_url", "https://receiver.example.com/\x7f"),
    ("invalid_url", "https://receiver.example.com/\x85"),
    ("invalid_url", "https://receiver.example.com/\\..\\"),
    ("invalid_url", "https://127.0.0.1\u00a0/"),
    ("invalid_url", "https://127.0.0.1\u3000/"),
    ("invalid_url", "https://127.0.0.1\u2028/"),
    ("userinfo_not_allowed", "https://receiver.example.com%23@127.0.0.1%2f/"),
    ("invalid_url", "https://127.0.0.1\uff20@receiver.example.com/"),
    ("host_not_allowed", "https://१२७.0.0.1/"),
    ("host_not_allowed", "https://l\u043ecalhost/"),  # a Cyrillic o: a name without a dot
    ("fragment_not_allowed", "https://receiver.example.com#@127.0.0.1/"),
    ("fragment_not_allowed", "https://receiver.example.com/#"),
    ("fragment_not_allowed", "https://127.0.0.1/#receiver.example.com"),
    ("too_long", "https://127.0.0.1/" + "x" * 2_048),
    ("too_long", "https://" + "a." * 1_100 + "example.com/"),
]

# --------------------------------------------------------- names that anybody may buy, and what their servers answer

ANSWERS = [
    "127.0.0.1",
    "127.0.0.53",
    "0.0.0.0",  # noqa: S104 - nothing is bound to it
    "10.0.0.1",
    "172.17.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::",
    "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "2606:4700::5efe:127.0.0.1",
    "2606:4700::1111%1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%2",
    "fec0::1",
    "ff02::1",
    "5f00::1",
    # one bad answer among good ones
    "8.8.8.8 127.0.0.1",
    "127.0.0.1 8.8.8.8",
    "8.8.8.8 1.1.1.1 169.254.169.254",
    "8.8.8.8 ::1",
    "2606:4700::1111 ::ffff:10.0.0.1",
    "2606:4700::1111 8.8.8.8 fd00:ec2::254",
    "8.8.8.8 64:ff9b::7f00:1",
    # what no name server can say, and a resolver's configuration may
    "localhost",
    "0x7f000001",
    "127.1",
    "127.0.0.1:80",
    "",
]
# Names in other scripts that look like an address, or like a name that leads to one.
LOOKALIKES = [
    ("https://١٢٧.٠.٠.١/", "127.0.0.1"),
    ("https://l\u043ecalhost.example.com/", "::1"),
    ("https://metad\u0430ta.g\u043e\u043egle.internal.example.com/", "169.254.169.254"),
    ("https://xn--lcalhost-nbh.example.com/", "127.0.0.1"),
    ("https://b\u00fccher.example/", "10.0.0.1"),
    ("https://fa\u00df.example/", "10.0.0.1"),
    ("https://127.0.0.1.nip.io/", "127.0.0.1"),
    ("https://a9fea9fe.nip.io/", "169.254.169.254"),
    ("https://localtest.me/", "127.0.0.1"),
    ("https://spoofed.burpcollaborator.net:8443/", "127.0.0.1"),
    ("https://169.254.169.254.example.com/latest/meta-data", "169.254.169.254"),
]


def cases() -> Iterator[Case]:
    """All of them."""
    for code, hosts in HOSTS.items():
        for host in hosts.replace("\\\\", "\\").split():
            yield Case(f"https://{host}/", code)
    for code, url in URLS:
        yield Case(url, code)
    for number, answers in enumerate(ANSWERS):
        yield Case(f"https://receiver{number}.example.com/hook", None, tuple(answers.split(" ")))
    for url, answer in LOOKALIKES:
        yield Case(url, None, (answer,))
