"""Where in a subject's attributes stands what Pinpoint keeps about users and endpoints (docs/pinpoint.md)."""

from __future__ import annotations

from collections.abc import Mapping

USER = "user"
ENDPOINT = "endpoint"
METRICS = "metrics"
CHANNEL_TYPE = "channelType"

#: What messages go to, by the activity that sends them.
ADDRESSES: Mapping[str, str] = {"EMAIL": "email", "SMS": "phone", "PUSH": "deviceToken"}

#: `Demographic.X` and `Location.X` of an endpoint.
DEMOGRAPHIC: Mapping[str, tuple[str, ...]] = {
    "AppVersion": ("demographic", "appVersion"),
    "Channel": (CHANNEL_TYPE,),
    "DeviceType": ("demographic", "deviceType"),
    "Locale": ("demographic", "locale"),
    "Make": ("demographic", "make"),
    "Model": ("demographic", "model"),
    "ModelVersion": ("demographic", "modelVersion"),
    "Platform": ("demographic", "platform"),
    "PlatformVersion": ("demographic", "platformVersion"),
    "Timezone": ("demographic", "timezone"),
}
LOCATION: Mapping[str, tuple[str, ...]] = {
    "City": ("location", "city"),
    "Country": ("location", "country"),
    "Latitude": ("location", "latitude"),
    "Longitude": ("location", "longitude"),
    "PostalCode": ("location", "postalCode"),
    "Region": ("location", "region"),
}
