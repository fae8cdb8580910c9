"""BundleService."""

from __future__ import annotations

from orchestrator.api.call import Call, own_transactions, tells_all
from orchestrator.api.convert.bundles import bundle_message, bundle_of, change_messages, left_out_messages
from orchestrator.api.convert.violations import violations
from orchestrator.application.bundle_exports import export_bundle
from orchestrator.application.bundle_imports import import_bundle
from orchestrator.application.communications import Communications
from orchestrator.application.threads import in_thread
from orchestrator.domain.bundle import Action
from orchestrator.v1 import bundle_service_pb2 as rpc


class BundleHandlers:
    def __init__(self, communications: Communications) -> None:
        self._communications = communications

    @own_transactions
    async def ExportBundle(self, request: rpc.ExportBundleRequest, call: Call) -> rpc.ExportBundleResponse:
        async with call.transactions.snapshot(call.scope.project_no) as conn:
            exported = await export_bundle(
                conn, call.scope, with_settings=not request.without_settings, journey_ids=request.journey_ids
            )
        return rpc.ExportBundleResponse(
            bundle=await in_thread(bundle_message, exported.bundle),
            left_out=left_out_messages(exported.left_out),
            warnings=violations(exported.warnings),
            etag=exported.etag,
        )

    @tells_all
    async def ImportBundle(self, request: rpc.ImportBundleRequest, call: Call) -> rpc.ImportBundleResponse:
        # All definitions of a project are megabytes, and some hundred milliseconds to whoever waits.
        bundle = await in_thread(bundle_of, request.bundle)
        imported = await import_bundle(call.conn, call.scope, self._communications, bundle, expected_etag=request.etag)
        return rpc.ImportBundleResponse(
            changes=change_messages(imported.changes),
            created_count=imported.count(Action.CREATED),
            updated_count=imported.count(Action.UPDATED),
            unchanged_count=imported.count(Action.UNCHANGED),
            published_count=imported.published,
            etag=imported.etag_before if call.validate_only else imported.etag_after,
        )
