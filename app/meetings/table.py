"""The meeting products as data: which hosts are theirs, which of their pages lead into a meeting, what names it.

A row is one form of address. A host stands alone, or as `*.host` for its subdomains; a host that stands alone goes
before a wildcard. `path` must match the path as a whole; what no row matches (recordings, registrations, options,
dial-in and landing pages) is no meeting. Where rooms stand directly below a host, its other pages are named in `never`.

Every pattern is a sequence of bounded, non-overlapping parts, so none can take more than linear time. A new product, or
a new form of one, is a new row, with cases in `tests/unit/meetings/`.
"""

import re
from dataclasses import dataclass

_SITE = (
    "about|account|admin|api|app|apps|assets|auth|blog|careers|company|contact|cookies|customers|dashboard|demo|dev|"
    "developers|docs|download|downloads|enterprise|events|faq|features|help|home|images|index\\.html|information|"
    "install|join|jobs|legal|login|logout|mobile|new|org|partners|plans|press|pricing|privacy|product|products|"
    "resources|security|settings|sign-in|sign-up|signin|signup|sitemap\\.xml|solutions|start|static|status|store|"
    "support|team|teams|terms|tos|use-cases|user|users|watch|webinars"
)
_PAGES = rf"/(?:{_SITE}|[a-z]{{2}}(?:-[a-z]{{2}})?)(?:/.*)?"
"""What products have below their host beside rooms; languages too."""
_ROOM = r"/(?P<id>[\w.~%@+-]{1,200})/?"


@dataclass(frozen=True, slots=True)
class Row:
    """One form of address of one product."""

    name: str
    hosts: tuple[str, ...]
    path: re.Pattern[str] | None
    """Of a meeting's path as a whole. Group `id` names the meeting, `passcode` is what opens it. None: no meetings."""
    query: str | None = None
    """A parameter that has to be there and names the meeting."""
    never: re.Pattern[str] | None = None
    has_fragment: bool = False
    """Whether `path` is matched against path, `#` and fragment."""
    is_shared: bool = False
    """Whether an id is good at all of the product's hosts; else the host belongs to the meeting's name."""
    is_folded: bool = False
    """Whether capitals do not count in an id."""
    passcodes: tuple[str, ...] = ()
    """Parameters that hold a passcode; a product that has any is looked for one in the text behind the link, too."""


def _row(
    name: str,
    hosts: str,
    path: str | None,
    *,
    query: str | None = None,
    never: str | None = None,
    has_fragment: bool = False,
    is_shared: bool = False,
    is_folded: bool = False,
    passcodes: tuple[str, ...] = (),
) -> Row:
    return Row(
        name,
        tuple(hosts.split()),
        None if path is None else re.compile(path, re.IGNORECASE),
        query,
        None if never is None else re.compile(never, re.IGNORECASE),
        has_fragment,
        is_shared,
        is_folded,
        passcodes,
    )


_ZOOM = "zoom.us *.zoom.us zoom.com *.zoom.com zoom.com.cn *.zoom.com.cn zoom-x.de *.zoom-x.de"
_ZOOM_GOV = "zoomgov.com *.zoomgov.com"
_TEAMS_PUBLIC = "teams.microsoft.com teams.cloud.microsoft"
_TEAMS_APART = (
    "teams.live.com teams.microsoft.us gov.teams.microsoft.us dod.teams.microsoft.us teams.microsoftonline.cn"
)
TEAMS_HOSTS = (*_TEAMS_PUBLIC.split(), *_TEAMS_APART.split())
_PWD = ("pwd",)


def _zoom(name: str, hosts: str) -> tuple[Row, ...]:
    return (
        # Ids have 9 to 12 digits; shorter ones are let through, since a link of this form leads nowhere else.
        _row(
            name,
            hosts,
            r"/(?:[jsw]|wc(?:/join)?)/(?P<id>[0-9]{3,13})(?:/(?:join|start))?/?",
            is_shared=True,
            passcodes=_PWD,
        ),
        _row(name, hosts, r"/join/?", query="confno", is_shared=True, passcodes=_PWD),
        # A personal name belongs to its account, so to its vanity host.
        _row(name, hosts, r"/(?P<id>(?:my|ej)/[\w.%-]{1,200})/?", is_folded=True, passcodes=_PWD),
    )


PLATFORMS: tuple[Row, ...] = (
    _row(
        "google_meet",
        "meet.google.com",
        r"/(?:_meet/)?(?P<id>[a-z]{3}-[a-z]{4}-[a-z]{3}|lookup/[\w-]{1,200})/?",
        is_shared=True,
        is_folded=True,
    ),
    _row("google_meet", "stream.meet.google.com", r"/(?P<id>stream/[\w-]{1,200})/?", is_shared=True),
    _row("google_meet", "g.co", r"/meet/(?P<id>[\w-]{1,200})/?", is_folded=True),
    _row("google_hangouts", "hangouts.google.com plus.google.com", r"/hangouts/_/(?P<id>[^?#]{1,300})"),
    _row("google_hangouts", "hangouts.google.com", r"/call/(?P<id>[\w-]{1,200})/?"),
    *_zoom("zoom", _ZOOM),
    _row("zoom", "*.zm.page", r"/?"),
    *_zoom("zoom_gov", _ZOOM_GOV),
    _row(
        "microsoft_teams",
        f"{_TEAMS_PUBLIC} {_TEAMS_APART}",
        r"/l/meetup-join/(?P<id>.{1,2000})",
        is_shared=True,
        passcodes=("p",),
    ),
    _row("microsoft_teams", _TEAMS_PUBLIC, r"/meet/(?P<id>[\w-]{1,200})/?", is_shared=True, passcodes=("p",)),
    _row("microsoft_teams", _TEAMS_APART, r"/meet/(?P<id>[\w-]{1,200})/?", passcodes=("p",)),
    _row(
        "webex",
        "*.webex.com *.webex.com.cn",
        r"/(?:[\w.-]{1,100}/)?[je]\.php",
        query="MTID",
        is_shared=True,
        is_folded=True,
        passcodes=_PWD,
    ),
    _row(
        "webex",
        "*.webex.com *.webex.com.cn",
        r"/(?:meet|join|m)/(?P<id>[\w.%@-]{1,200})/?",
        is_folded=True,
        passcodes=_PWD,
    ),
    _row(
        "webex",
        "*.webex.com *.webex.com.cn",
        r"/(?:wbxmjs/joinservice|webappng)/sites/[\w.-]{1,100}/meeting/(?:download|info)/(?P<id>[0-9a-z]{16,64})/?",
        is_shared=True,
        is_folded=True,
        passcodes=_PWD,
    ),
    _row(
        "goto",
        "gotomeeting.com *.gotomeeting.com",
        r"/join/(?P<id>[0-9]{6,12})/?",
        is_shared=True,
    ),
    _row("goto", "app.gotomeeting.com", r"/(?:index\.html)?", query="meetingid", is_shared=True),
    _row("goto", "meet.goto.com", r"/(?P<id>[0-9]{6,12})/?", is_shared=True),
    _row("goto", "app.goto.com", r"/meet(?:ing)?/(?P<id>[0-9]{6,12})/?", is_shared=True),
    _row("goto", "meet.goto.com", r"/(?P<id>(?:[\w.-]{1,100}/)?[\w.-]{1,100})/?", never=_PAGES, is_folded=True),
    _row("goto", "gotomeet.me www.gotomeet.me", _ROOM, never=_PAGES, is_folded=True),
    _row("goto", "*.gotowebinar.com", r"/join/(?P<id>[\w-]{1,100}(?:/[\w-]{1,100})?)/?", is_shared=True),
    _row(
        "whereby",
        "whereby.com *.whereby.com appear.in *.appear.in",
        _ROOM,
        never=_PAGES,
        is_folded=True,
    ),
    _row(
        "jitsi",
        "meet.jit.si",
        r"/(?P<id>(?:[^/?#]{1,100}/)?[^/?#]{1,200})/?",
        never=r"/(?:static|images|libs|css|lang|sounds|fonts|about|[^/]{1,60}\.(?:js|css|html|json|ico))(?:/.*)?",
        is_folded=True,
    ),
    _row("jitsi", "8x8.vc *.8x8.vc", r"/(?P<id>[\w.-]{1,100}/[^/?#]{1,200})/?", never=r"/static/.*", is_folded=True),
    _row("amazon_chime", "chime.aws app.chime.aws", r"/(?:meetings/)?(?P<id>[0-9]{10})/?", is_shared=True),
    _row("amazon_chime", "app.chime.aws", r"/meetings/(?P<id>[\w.-]{3,60})/?", is_shared=True, is_folded=True),
    _row("amazon_chime", "chime.aws", _ROOM, never=rf"/dialinnumbers.*|{_PAGES}", is_shared=True, is_folded=True),
    _row(
        "bluejeans",
        "bluejeans.com *.bluejeans.com",
        r"/(?P<id>[0-9]{6,18})(?:/(?P<passcode>[0-9]{2,10}))?(?:/(?:webrtc|browser))?/?",
        is_shared=True,
    ),
    _row("bluejeans", "primetime.bluejeans.com", r"/a2m/live-event/(?P<id>[\w-]{4,60})/?"),
    _row("around", "meet.around.co around.co", r"/r/(?P<id>[\w-]{1,100})/?", is_shared=True),
    _row(
        "ringcentral",
        "v.ringcentral.com meetings.ringcentral.com webinar.ringcentral.com v.ringcentral.biz "
        "meetings.btcloudphone.bt.com meetings.officeathand.att.com",
        r"/(?:join|j)/(?P<id>[0-9]{6,16})/?",
        is_shared=True,
        passcodes=("pw", "pwd"),
    ),
    _row("skype", "join.skype.com", r"/(?P<id>[A-Za-z0-9]{6,60})/?", is_shared=True),
    _row(
        "skype_for_business",
        "meet.lync.com join.lync.com",
        r"/(?P<id>[\w.-]{1,100}/[\w.-]{1,100}/[A-Za-z0-9]{4,20})/?",
        is_folded=True,
    ),
    _row("dialpad", "dialpad.com www.dialpad.com", r"/meetings/(?P<id>[\w.-]{1,100})/?", is_folded=True),
    _row(
        "dialpad",
        "meetings.dialpad.com www.uberconference.com uberconference.com",
        r"/(?:room/)?(?P<id>[\w.-]{1,100})/?",
        never=_PAGES,
        is_folded=True,
    ),
    _row("join_me", "join.me *.join.me", _ROOM, never=_PAGES, is_folded=True),
    _row("teamviewer_meeting", "go.teamviewer.com", r"/(?:v[0-9]{1,2}/)?(?P<id>m[0-9]{6,12})/?", is_folded=True),
    _row("blizz", "go.blizz.com", r"/(?:join/)?(?P<id>[a-z]?[0-9-]{6,14})/?", is_folded=True),
    _row("vsee", "vsee.com *.vsee.com *.vsee.me", r"/(?:c|u|meet)/(?P<id>[\w.%-]{1,100})/?", is_folded=True),
    _row("starleaf", "meet.starleaf.com", r"/(?P<id>[\w.@-]{2,100})(?:/app)?/?", never=_PAGES, is_folded=True),
    _row(
        "tencent_meeting",
        "meeting.tencent.com",
        r"/(?:dm|dw|p)/(?P<id>[\w-]{4,60})/?",
        is_shared=True,
        passcodes=_PWD,
    ),
    _row(
        "voov",
        "voovmeeting.com www.voovmeeting.com",
        r"/(?:dm|dw|p)/(?P<id>[\w-]{4,60})/?",
        is_shared=True,
        passcodes=_PWD,
    ),
    _row("workplace", "*.workplace.com", r"/(?:groupcall|meet)/(?P<id>[\w:-]{1,200})/?"),
    _row("messenger", "messenger.com www.messenger.com", r"/groupcall/(?P<id>[\w:%-]{1,200})/?", is_shared=True),
    _row("messenger", "msngr.com www.msngr.com", r"/(?P<id>[\w-]{6,60})/?"),
    _row("lifesize", "call.lifesizecloud.com", r"/(?P<id>[0-9]{4,14})/?"),
    _row("vonage", "meetings.vonage.com", r"/(?P<id>[0-9]{6,12})/?"),
    _row("vonage", "meetings.vonage.com", r"/?", query="room_token"),
    _row("facetime", "facetime.apple.com", r"/join/?#(?P<id>.{1,600})", has_fragment=True),
    _row("jam", "jam.systems", _ROOM, never=_PAGES, is_folded=True),
    _row("discord", "discord.gg", r"/(?P<id>[\w-]{2,60})/?"),
    _row(
        "discord",
        "discord.com www.discord.com canary.discord.com ptb.discord.com discordapp.com",
        r"/(?P<id>invite/[\w-]{2,60}|(?:channels|events)/[0-9]{5,25}/[0-9]{5,25})/?",
        is_shared=True,
    ),
    _row(
        "blackboard_collaborate",
        "*.bbcollab.com *.bbcollab.cloud",
        r"/(?:collab/ui/session/)?(?:guest|join|invite|launch)/(?P<id>[\w.%-]{4,1000})/?",
    ),
    _row("coscreen", "join.coscreen.co", r"/(?P<id>[\w./-]{1,200})"),
    _row("vowel", "vowel.com *.vowel.com", r"/#/[gm]/(?P<id>[\w./-]{1,200})", has_fragment=True),
    _row(
        "zhumu",
        "zhumu.com *.zhumu.com zhumu.me *.zhumu.me",
        r"/j/(?P<id>[0-9]{6,13})/?",
        is_shared=True,
        passcodes=_PWD,
    ),
    _row("lark", "vc.larksuite.com", r"/j/(?P<id>[0-9]{6,14})/?"),
    _row("feishu", "vc.feishu.cn", r"/j/(?P<id>[0-9]{6,14})/?"),
    _row("dingtalk", "meeting.dingtalk.com", r"/j/(?P<id>[\w-]{4,100})/?"),
    _row("ovice", "www.ovice.in www.ovice.com", None),
    _row("ovice", "*.ovice.in *.ovice.com", r"/(?P<id>[\w@,./-]{1,200})", never=_PAGES),
    _row("luma", "lu.ma luma.com", r"/join/(?P<id>[\w-]{1,100})/?", is_shared=True),
    _row("userzoom", "go.userzoom.com", r"/participate/(?P<id>[\w-]{6,100})/?"),
    _row("venue", "app.venue.live", r"/app/(?P<id>[\w./-]{1,200})"),
    _row("teemyco", "app.teemyco.com", r"/room/(?P<id>[\w-]{1,200})/?"),
    _row(
        "zoho_meeting",
        "meeting.zoho.com meeting.zoho.eu meeting.zoho.in meeting.zoho.com.au meeting.zoho.com.cn meeting.zoho.jp",
        r"/(?:meeting/|join)?(?:join)?/?",
        query="key",
    ),
    _row("zoho_meeting", "meet.zoho.com meet.zoho.eu meet.zoho.in", _ROOM, never=_PAGES),
    _row("zoho_cliq", "cliq.zoho.com cliq.zoho.eu cliq.zoho.in", r"/meetings/(?P<id>[\w./-]{1,200})"),
    _row("slack", "app.slack.com", r"/huddle/(?P<id>[A-Z0-9]{3,30}/[A-Z0-9]{3,30})/?", is_folded=True),
    _row(
        "gather",
        "gather.town app.gather.town app.v2.gather.town",
        r"/app/(?P<id>[\w%-]{1,100}/[\w%. -]{1,200})/?",
        is_shared=True,
    ),
    _row("gather", "gather.town app.gather.town app.v2.gather.town", r"/invite/?", query="token", is_shared=True),
    _row("reclaim", "reclaim.ai app.reclaim.ai", r"/z/(?P<id>[\w./-]{1,200})", is_shared=True),
    _row("pop", "pop.com", r"/j/(?P<id>[0-9-]{3,40})/?"),
    _row("chorus", "go.chorus.ai", r"/(?P<id>[\w./-]{1,200})"),
    _row("gong", "join.gong.io *.join.gong.io", r"/(?P<id>[\w./-]{1,200})"),
    _row("livestorm", "app.livestorm.co app.livestorm.com", r"/p/(?P<id>[\w-]{4,100})(?:/live)?/?", is_shared=True),
    _row("tuple", "tuple.app", r"/c/(?P<id>[\w-]{1,200})/?"),
    _row("pumble", "meet.pumble.com", _ROOM, never=_PAGES, is_folded=True),
    _row("suitconference", "conference.istesuit.com *.conference.istesuit.com", r"/(?P<id>[\w./-]{1,200})"),
    _row("doxy_me", "doxy.me *.doxy.me", _ROOM, never=_PAGES, is_folded=True),
    _row("cal_video", "cal.com app.cal.com", r"/video/(?P<id>[\w-]{6,100})/?", is_shared=True),
    _row("livekit", "meet.livekit.io", r"/rooms/(?P<id>[\w-]{1,200})/?"),
    _row("meetecho", "*.conf.meetecho.com", r"/[\w-]{0,60}/?", query="session"),
    _row("meetecho", "*.conf.meetecho.com", r"/[\w-]{0,60}/?", query="group"),
    _row("streamyard", "streamyard.com", r"/(?P<id>(?=[a-z]{0,13}[0-9])[a-z0-9]{8,14})/?"),
    _row("riverside", "riverside.fm riverside.com", r"/studio/(?P<id>[\w-]{1,200})/?", is_shared=True),
    _row("proton_meet", "meet.proton.me", r"/(?:u/[0-9]{1,3}/)?join/(?P<id>[\w-]{4,100})/?"),
    _row("pexip", "pexip.me *.pexip.me", r"/meet/(?P<id>[\w.@-]{1,200})/?", is_folded=True, passcodes=("pin",)),
    _row(
        "pexip",
        "pexip.me *.pexip.me",
        r"/webapp[0-9]{0,2}/(?:m|conference)/(?P<id>[\w.@-]{1,200})(?:/[\w-]{1,40})?/?",
        is_folded=True,
        passcodes=("pin",),
    ),
    _row("daily", "www.daily.co docs.daily.co api.daily.co help.daily.co dashboard.daily.co blog.daily.co", None),
    _row("daily", "*.daily.co", r"/(?P<id>[\w-]{1,128})/?"),
    _row("butter", "app.butter.us", r"/(?P<id>[\w-]{1,100}/[\w-]{1,100})/?", never=_PAGES),
    _row("kumospace", "app.kumospace.com", _ROOM, never=_PAGES, is_folded=True),
    _row("kmeet", "kmeet.infomaniak.com", r"/(?:room/)?(?P<id>[\w-]{2,200})/?", never=_PAGES, is_folded=True),
    _row("element_call", "call.element.io", r"/room/?#/(?P<id>[^?]{1,300})(?:\?.*)?", has_fragment=True),
    _row("element_call", "call.element.io", r"/(?:room/)?(?P<id>[\w.~%-]{2,200})/?", never=rf"/room/?|{_PAGES}"),
    _row("digital_samba", "www.digitalsamba.com api.digitalsamba.com docs.digitalsamba.com", None),
    _row("digital_samba", "*.digitalsamba.com", _ROOM, never=_PAGES),
    _row("signal", "signal.link", r"/call/?#key=(?P<id>[\w-]{8,200})", has_fragment=True),
    _row("whatsapp", "call.whatsapp.com", r"/(?:voice|video)/(?P<id>[\w-]{6,100})/?"),
    _row("line", "line.me", r"/R/meeting/(?P<id>[\w-]{6,100})/?", is_folded=True),
    _row("talky", "talky.io", _ROOM, never=_PAGES, is_folded=True),
    _row("clickmeeting", "www.clickmeeting.com knowledge.clickmeeting.com account-panel.clickmeeting.com", None),
    _row("clickmeeting", "*.clickmeeting.com", _ROOM, never=_PAGES, is_folded=True),
    _row("adobe_connect", "*.adobeconnect.com", _ROOM, never=rf"/p[0-9a-z]{{9,13}}/?|/system/.*|{_PAGES}"),
    _row("spatialchat", "spatial.chat app.spatial.chat", r"/s/(?P<id>[\w-]{1,200})/?", is_shared=True, is_folded=True),
    _row("remo", "live.remo.co", r"/e/(?P<id>[\w-]{1,200})/?"),
    _row("airmeet", "airmeet.com www.airmeet.com", r"/e/(?P<id>[\w-]{6,100})/?", is_shared=True),
    _row(
        "jiomeet",
        "jiomeet.jio.com jiomeetpro.jio.com",
        r"/shortener/?",
        query="meetingId",
        is_shared=True,
        passcodes=_PWD,
    ),
    _row("brave_talk", "talk.brave.com", r"/(?P<id>[\w-]{20,100})/?"),
    _row("opentalk", "app.opentalk.eu", r"/(?:room|invite)/(?P<id>[0-9a-f-]{36})/?", is_folded=True),
    _row("mirotalk", "p2p.mirotalk.com sfu.mirotalk.com c2c.mirotalk.com", r"/join/(?P<id>[\w.%-]{1,200})/?"),
)

SELF_HOSTED: tuple[Row, ...] = (
    # Forms without a host of their own: they count at hosts that a project names.
    _row(
        "jitsi",
        "",
        r"/(?P<id>(?:[^/?#]{1,100}/)?[^/?#]{1,200})/?",
        never=r"/(?:static|images|libs|css|lang|sounds|fonts|about|[^/]{1,60}\.(?:js|css|html|json|ico))(?:/.*)?",
        is_folded=True,
    ),
    _row("bigbluebutton", "", r"/(?:gl|b|rooms)/(?P<id>[\w-]{3,100})(?:/join)?/?", is_folded=True),
    _row("bigbluebutton", "", r"/bigbluebutton/api/join/?", query="meetingID"),
    _row(
        "skype_for_business",
        "",
        r"/(?P<id>(?:[\w.-]{1,100}/){1,3}[A-Za-z0-9]{4,20})/?",
        never=rf"/dialin/.*|{_PAGES}",
        is_folded=True,
    ),
    _row("nextcloud_talk", "", r"/(?:index\.php/)?call/(?P<id>[A-Za-z0-9]{4,40})/?"),
    _row("pexip", "", r"/meet/(?P<id>[\w.@-]{1,200})/?", is_folded=True, passcodes=("pin",)),
    _row(
        "pexip",
        "",
        r"/webapp[0-9]{0,2}/(?:m|conference)/(?P<id>[\w.@-]{1,200})(?:/[\w-]{1,40})?/?",
        is_folded=True,
        passcodes=("pin",),
    ),
    _row("livekit", "", r"/rooms/(?P<id>[\w-]{1,200})/?"),
    _row("element_call", "", r"/room/?#/(?P<id>[^?]{1,300})(?:\?.*)?", has_fragment=True),
    _row("opentalk", "", r"/(?:room|invite)/(?P<id>[0-9a-f-]{36})/?", is_folded=True),
    _row("galene", "", r"/group/(?P<id>[\w.%/-]{1,200})"),
    _row("mirotalk", "", r"/join/(?P<id>[\w.%-]{1,200})/?"),
)

SELF_HOSTED_NAMES = frozenset(row.name for row in SELF_HOSTED)
NAMES = frozenset(row.name for row in PLATFORMS) | SELF_HOSTED_NAMES
"""Every value that `meeting_platform` can have."""
