"""Templates as communications: one for each template, and one for each way in which activities send it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.domain.channels import EMAIL, WEBHOOK, Rules, header_faults
from orchestrator.domain.communication import MARKETING, Communication, faults_in
from orchestrator.pinpoint.export import Kind, Resource
from orchestrator.pinpoint.finding import Discoveries, FindingKind
from orchestrator.pinpoint.handlebars import NotTranslatable, Translator
from orchestrator.pinpoint.identifiers import as_id, distinct
from orchestrator.pinpoint.naming import Naming
from orchestrator.pinpoint.reading import place, says_nothing
from orchestrator.pinpoint.variables import substitutions

#: Where messages go that need a gateway nobody has named yet: a name that never resolves (RFC 2606), so that they fail
#: and are seen to, and none counts as sent.
NO_GATEWAY = "https://{}.gateway.invalid/"

#: The activity that sends templates of a kind.
ACTIVITY: Mapping[Kind, str] = {Kind.EMAIL: "EMAIL", Kind.SMS: "SMS", Kind.PUSH: "PUSH"}
#: The part that is HTML: what comes out of variables is escaped in it.
_HTML = "HtmlPart"
_PARTS: Mapping[Kind, tuple[str, ...]] = {
    Kind.EMAIL: ("Subject", "TextPart", _HTML),
    Kind.SMS: ("Body",),
    Kind.PUSH: ("Title", "Body"),
}
_PLATFORMS = ("GCM", "APNS", "ADM", "Baidu")
_KEPT_HEADER = "reply-to"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Template:
    resource: Resource
    name: str
    texts: Mapping[str, str]
    settings: Mapping[str, Any]


@dataclass(slots=True)
class Communications:
    """The templates of an export, and what is sent of them."""

    found: Discoveries
    naming: Naming
    gateways: Mapping[Kind, str]
    rules: Rules
    _templates: dict[tuple[Kind, str], _Template] = field(default_factory=dict)
    _broken: set[tuple[Kind, str]] = field(default_factory=set)
    _made: dict[str, dict[str, Any]] = field(default_factory=dict)
    _paths: dict[str, str] = field(default_factory=dict)
    _sent: set[tuple[Kind, str]] = field(default_factory=set)

    def read(self, resource: Resource) -> None:
        """Translate a template, unless another one has its name."""
        name = resource.body.get("TemplateName") or resource.name
        if not name:
            self.found.fault(place(resource.path, "TemplateName"), "REQUIRED", "a template has a name")
            return
        key = (resource.kind, name)
        earlier = self._templates.get(key)
        if earlier is not None:
            self.naming.repeated(earlier.resource, resource)
            return
        texts = self._texts(resource)
        if texts is None:
            self._broken.add(key)
            texts = {}
        self._templates[key] = _Template(
            resource=resource, name=name, texts=texts, settings=self._settings(resource, texts)
        )

    def sent(self, kind: Kind, activity: Mapping[str, Any], path: str) -> str | None:
        """The id of the communication that an activity sends; None where it names no template."""
        name = activity.get("TemplateName")
        at = place(path, "TemplateName")
        if not name:
            self.found.find(FindingKind.MISSING, at, name, "nothing says what is sent: the step cannot be published")
            return None
        template = self._templates.get((kind, name))
        settings = self._settings_of(kind, activity.get("MessageConfig") or {}, place(path, "MessageConfig"))
        made_id = _id_of(kind, name, settings)
        if template is None:
            message = f"the template is not in the export: the step cannot be published until there is {made_id}"
            self.found.find(FindingKind.MISSING, at, name, message)
            return made_id
        self._sent.add((kind, name))
        self._tell_version(template, activity.get("TemplateVersion"), place(path, "TemplateVersion"))
        self._make(template, kind, made_id, settings)
        if made_id not in self._made:
            message = f"the template was not translated: the step cannot be published until there is {made_id}"
            self.found.find(FindingKind.MISSING, at, name, message)
        return made_id

    def custom(self, activity_id: str, url: str, body: str, path: str) -> str:
        """The communication of a custom message, which has no template."""
        made_id = as_id(activity_id)
        self._add(made_id, activity_id, WEBHOOK, "", body, {"url": url}, path)
        return made_id

    def documents(self) -> list[dict[str, Any]]:
        """All of them; of templates that nothing sends, too."""
        for (kind, name), template in self._templates.items():
            if (kind, name) not in self._sent:
                self._make(template, kind, _id_of(kind, name, {}), {})
        return list(self._made.values())

    def _make(self, template: _Template, kind: Kind, made_id: str, settings: Mapping[str, Any]) -> None:
        if made_id in self._made or (kind, template.name) in self._broken:
            return
        own = dict(template.settings)
        if kind is Kind.EMAIL:
            body, channel = template.texts.get("TextPart", ""), EMAIL
        else:
            body, channel = template.texts.get("Body", ""), WEBHOOK
            own["url"] = self.gateways.get(kind) or NO_GATEWAY.format(kind.value)
            if kind not in self.gateways:
                message = (
                    f"such messages go by webhook to a gateway of yours, which looks up where to: none is named, "
                    f"so they fail until settings.url of {made_id} says one"
                )
                self.found.find(FindingKind.MISSING, template.resource.path, template.name, message)
        subject = template.texts.get("Subject") or template.texts.get("Title") or ""
        self._add(made_id, template.name, channel, subject, body, {**own, **settings}, template.resource.path)

    def _add(
        self, made_id: str, name: str, channel: str, subject: str, body: str, settings: dict[str, Any], path: str
    ) -> None:
        document = {
            "id": made_id,
            "name": name,
            "channel": channel,
            "category": MARKETING,
            "subject": subject,
            "body": body,
            "settings": settings,
        }
        communication = Communication(
            name=name, channel=channel, category=MARKETING, subject=subject, body=body, settings=settings
        )
        faults = faults_in(communication, "", self.rules)
        for fault in faults:
            message = f"no communication was made of it: {fault.path}: {fault.message}"
            self.found.find(FindingKind.NO_COUNTERPART, path, name, message)
        if not faults:
            self._made[made_id] = document

    def _texts(self, resource: Resource) -> dict[str, str] | None:
        """Each part in Liquid; None where one cannot be translated."""
        body = resource.body
        path = resource.path
        if resource.kind is Kind.PUSH:
            body, path = self._push(resource)
        translator = Translator(ACTIVITY[resource.kind], self._defaults(resource))
        texts: dict[str, str] = {}
        is_whole = True
        for part in _PARTS[resource.kind]:
            source = body.get(part) or ""
            try:
                texts[part] = translator.liquid(source)
            except NotTranslatable as error:
                is_whole = False
                message = f"no communication was made of the template: {error.why}"
                self.found.find(FindingKind.NO_COUNTERPART, place(path, part), error.construct, message)
            for construct in translator.unescaped if part == _HTML else ():
                message = "what comes out of variables is escaped here, always: markup in it is seen as text"
                self.found.find(FindingKind.DIFFERS, place(path, part), construct, message)
        self._tell_variables(resource, translator)
        if not any(texts.values()) and is_whole:
            self.found.find(FindingKind.MISSING, path, body, "there is no text in it: no communication was made of it")
            return None
        return texts if is_whole else None

    def _push(self, resource: Resource) -> tuple[Mapping[str, Any], str]:
        """Where the text of a push notification stands, and the path there."""
        if not says_nothing(resource.body.get("Default")):
            return resource.body["Default"], place(resource.path, "Default")
        for platform in _PLATFORMS:
            body = resource.body.get(platform)
            if isinstance(body, dict) and any(isinstance(body.get(part), str) for part in _PARTS[Kind.PUSH]):
                at = place(resource.path, platform)
                self.found.find(
                    FindingKind.DIFFERS, at, platform, "its text is used for all devices: there is no Default"
                )
                return {part: body[part] for part in _PARTS[Kind.PUSH] if isinstance(body.get(part), str)}, at
        return {}, resource.path

    def _defaults(self, resource: Resource) -> dict[str, str]:
        text = resource.body.get("DefaultSubstitutions")
        if not text:
            return {}
        at = place(resource.path, "DefaultSubstitutions")
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            self.found.fault(at, "INVALID_VALUE", "must be text that is a JSON object")
            return {}
        defaults, rest = substitutions(document)
        for name, value in rest:
            message = "a default is a text, a number, true or false, and one for each variable: nothing was made of it"
            self.found.find(FindingKind.NO_COUNTERPART, at, {name: value}, message)
        return defaults

    def _tell_variables(self, resource: Resource, translator: Translator) -> None:
        for variable in translator.unknown:
            message = "no such variable is filled in here: there is its default substitution, or nothing"
            self.found.find(FindingKind.NO_COUNTERPART, resource.path, f"{{{{{variable}}}}}", message)
        at = place(resource.path, "DefaultSubstitutions")
        for name in sorted(translator.defaults.keys() - translator.used_defaults):
            message = "no variable of the template has this default"
            self.found.find(FindingKind.NO_COUNTERPART, at, {name: translator.defaults[name]}, message)

    def _settings(self, resource: Resource, texts: Mapping[str, str]) -> dict[str, Any]:
        """What a template says beside its texts."""
        if resource.kind is not Kind.EMAIL:
            return {}
        settings: dict[str, Any] = {}
        if texts.get("HtmlPart"):
            settings["html"] = texts["HtmlPart"]
            if not texts.get("TextPart"):
                message = "the mail has no form in plain text: write one, for there are readers who see nothing else"
                self.found.find(FindingKind.MISSING, place(resource.path, "TextPart"), None, message)
        for index, header in enumerate(resource.body.get("Headers") or []):
            at = f"{place(resource.path, 'Headers')}[{index}]"
            if (header.get("Name") or "").lower() == _KEPT_HEADER and header.get("Value"):
                settings["replyTo"] = header["Value"]
            else:
                message = "mail has no headers of its own here; it brings List-Unsubscribe along by itself"
                self.found.find(FindingKind.NO_COUNTERPART, at, header, message)
        return settings

    def _settings_of(self, kind: Kind, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        """What an activity says of how its message goes out."""
        if kind is Kind.EMAIL:
            return {"from": config["FromAddress"]} if config.get("FromAddress") else {}
        if kind is Kind.SMS and config.get("MessageType") == "TRANSACTIONAL":
            message = "journeys send marketing messages only: whoever has opted out of these does not get it"
            self.found.find(FindingKind.DIFFERS, place(path, "MessageType"), "TRANSACTIONAL", message)
        headers: dict[str, str] = {}
        for member in _GATEWAY_MEMBERS[kind]:
            value = config.get(member)
            if value is None or value == "":
                continue
            header = {f"pinpoint-{member.lower()}": value}
            if header_faults(header, ""):
                message = "cannot stand in a header of a webhook: the gateway does not get to know it"
                self.found.find(FindingKind.NO_COUNTERPART, place(path, member), value, message)
            else:
                headers |= header
        return {"headers": headers} if headers else {}

    def _tell_version(self, template: _Template, version: str | None, path: str) -> None:
        exported = template.resource.body.get("Version")
        if version and exported and version != exported:
            message = f"the export has version {exported} of the template, and that is what is sent"
            self.found.find(FindingKind.DIFFERS, path, version, message)


#: What the gateway gets to know by headers of the webhook.
_GATEWAY_MEMBERS: Mapping[Kind, Iterable[str]] = {
    Kind.SMS: ("OriginationNumber", "SenderId", "EntityId", "TemplateId"),
    Kind.PUSH: ("TimeToLive",),
}


def _id_of(kind: Kind, name: str, settings: Mapping[str, Any]) -> str:
    stem = f"{name}.{kind.value}"
    if not settings:
        return as_id(stem)
    return distinct(as_id(stem), f"{stem} {json.dumps(settings, sort_keys=True)}")
