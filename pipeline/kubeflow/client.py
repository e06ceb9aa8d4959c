"""The client of the Kubeflow Pipelines API (v2beta1), on top of `kfp_server_api`.

`kfp.Client` is not used: it prints links of its own, sleeps and retries when it is created, and reads a context file
in the user's home directory.
"""

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import kfp_server_api as kfp  # type: ignore[import-untyped]
from urllib3 import Retry
from urllib3.exceptions import HTTPError

from mlops.kubeflow_run import SERVICE_ACCOUNT_TOKEN, run_url
from mlops.settings import is_http_address
from pipeline.kubeflow.errors import FORWARD, KubeflowError, api_error, not_the_api

TIMEOUT = (10.0, 60.0)  # s, to connect and to wait for an answer
PAGE_SIZE = 50
SERVICE_ACCOUNT_VARIABLE = "KF_PIPELINES_SA_TOKEN_PATH"
Found = TypeVar("Found")


class KubeflowClient:
    """Pipelines, runs and recurring runs of one Kubeflow Pipelines API. All methods raise KubeflowError.

    Args:
        host: the URL of the API, without /apis.
        namespace: that of the user's profile; None on a cluster with a single user.
        token: bearer token; without one, the service-account token of the pod is used where there is one.
    """

    def __init__(self, host: str, namespace: str | None = None, token: str | None = None) -> None:
        if not is_http_address(host):
            raise KubeflowError(
                f"expected the URL of the Kubeflow Pipelines API, such as http://127.0.0.1:8888, found {host!r}; "
                f"`{FORWARD}` makes it available there"
            )
        if urlsplit(host).username is not None:
            raise KubeflowError("the URL contains a login, which the API ignores; set KF_PIPELINES_TOKEN instead")
        # The address of a page, copied from the browser, has a query and a fragment.
        self.host = re.split(r"[?#]", host)[0].rstrip("/")
        self.namespace = namespace
        configuration = kfp.Configuration(host=self.host)
        # A redirect goes to a login page, and is not followed; a refused connection is reported at once.
        configuration.retries = Retry(0, raise_on_redirect=False)
        configuration.ssl_ca_cert = os.environ.get("SSL_CERT_FILE")
        _set_token(configuration, token)
        self._api = kfp.ApiClient(configuration)
        self._pipelines = kfp.PipelineServiceApi(self._api)
        self._uploads = kfp.PipelineUploadServiceApi(self._api)
        self._experiments = kfp.ExperimentServiceApi(self._api)
        self._runs = kfp.RunServiceApi(self._api)
        self._recurring_runs = kfp.RecurringRunServiceApi(self._api)

    def run_url(self, run_id: str) -> str:
        return run_url(self.host, run_id)

    def upload(self, pipeline: str, version: str, compiled: str) -> kfp.V2beta1PipelineVersionReference:
        """Return the reference to the version of this name, and upload it first if there is none.

        Args:
            compiled: the pipeline as YAML. It has to be the same for the same name of a version.
        """
        pipeline_id = _find_or_create(
            lambda: self._find_pipeline(pipeline),
            lambda: self._call(
                self._pipelines.pipeline_service_create_pipeline,
                kfp.V2beta1Pipeline(name=pipeline, display_name=pipeline, namespace=self.namespace),
            ),
        ).pipeline_id
        found = _find_or_create(
            lambda: self._find_version(pipeline_id, version),
            lambda: self._upload_version(pipeline_id, version, compiled),
        )
        return kfp.V2beta1PipelineVersionReference(
            pipeline_id=pipeline_id, pipeline_version_id=found.pipeline_version_id
        )

    def experiment(self, name: str) -> str:
        """Return the id of an experiment, which groups runs; it is created if it does not exist."""
        wanted = kfp.V2beta1Experiment(display_name=name, namespace=self.namespace)
        found = _find_or_create(
            lambda: self._find_experiment(name),
            lambda: self._call(self._experiments.experiment_service_create_experiment, wanted),
        )
        return str(found.experiment_id)

    def start(
        self, name: str, version: kfp.V2beta1PipelineVersionReference, experiment_id: str, arguments: Mapping[str, Any]
    ) -> str:
        run = kfp.V2beta1Run(
            display_name=name,
            experiment_id=experiment_id,
            pipeline_version_reference=version,
            runtime_config=kfp.V2beta1RuntimeConfig(parameters=dict(arguments)),
        )
        run_id = self._call(self._runs.run_service_create_run, run).run_id
        if not run_id:
            raise not_the_api(self.host)
        return str(run_id)

    def schedule(
        self,
        name: str,
        version: kfp.V2beta1PipelineVersionReference,
        experiment_id: str,
        arguments: Mapping[str, Any],
        cron: str,
    ) -> tuple[str, bool]:
        """Make a recurring run. One of this name that starts the same runs is kept, another is replaced.

        Args:
            cron: six fields; the first are seconds.
        Returns:
            its id, and whether it is new.
        """
        wanted = kfp.V2beta1RecurringRun(
            display_name=name,
            experiment_id=experiment_id,
            pipeline_version_reference=version,
            runtime_config=kfp.V2beta1RuntimeConfig(parameters=dict(arguments)),
            trigger=kfp.V2beta1Trigger(cron_schedule=kfp.V2beta1CronSchedule(cron=cron)),
            mode="ENABLE",
            max_concurrency="1",
            no_catchup=True,  # after an outage, only the newest of the missed runs
        )
        listing = self._recurring_runs.recurring_run_service_list_recurring_runs
        existing = [*self._pages(listing, "recurring_runs", experiment_id=experiment_id, filter=_named(name))]
        kept = next((found for found in existing if _starts_the_same(found, wanted)), None)
        made = kept or self._call(self._recurring_runs.recurring_run_service_create_recurring_run, wanted)
        for found in existing:
            if found is not kept:
                delete = self._recurring_runs.recurring_run_service_delete_recurring_run
                self._call(delete, found.recurring_run_id)
        return str(made.recurring_run_id), kept is None

    def runs(self, experiment: str) -> Iterator[Any]:
        """Iterate over the runs of an experiment (V2beta1Run), the newest first."""
        found = self._find_experiment(experiment)
        if found is None:
            return iter(())
        return self._pages(
            self._runs.run_service_list_runs,
            "runs",
            experiment_id=found.experiment_id,
            sort_by="created_at desc",
        )

    def run(self, run_id: str) -> Any:
        return self._call(self._runs.run_service_get_run, run_id)

    def pipeline_spec(self, run: Any) -> Mapping[str, Any]:
        """Return the pipeline that a run runs, as in the compiled YAML; empty if the server does not have it."""
        spec, reference = run.pipeline_spec, run.pipeline_version_reference
        if spec is None and reference is not None:
            get_version = self._pipelines.pipeline_service_get_pipeline_version
            spec = self._call(get_version, reference.pipeline_id, reference.pipeline_version_id).pipeline_spec
        found: Mapping[str, Any] = (spec or {}).get("pipeline_spec", spec or {})  # one level down, with platforms
        return found

    def cancel(self, run_id: str) -> None:
        self._call(self._runs.run_service_terminate_run, run_id)

    def retry(self, run_id: str) -> None:
        """Start the failed steps of a run again, and those that depend on them."""
        self._call(self._runs.run_service_retry_run, run_id)

    def _find_pipeline(self, name: str) -> Any:
        listing = self._pipelines.pipeline_service_list_pipelines
        return next(self._pages(listing, "pipelines", filter=_named(name), namespace=self.namespace), None)

    def _find_experiment(self, name: str) -> Any:
        listing = self._experiments.experiment_service_list_experiments
        return next(self._pages(listing, "experiments", filter=_named(name), namespace=self.namespace), None)

    def _find_version(self, pipeline_id: str, name: str) -> Any:
        listing = self._pipelines.pipeline_service_list_pipeline_versions
        found = self._pages(listing, "pipeline_versions", pipeline_id=pipeline_id, filter=_named(name))
        return next(found, None)

    def _upload_version(self, pipeline_id: str, name: str, compiled: str) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "pipeline.yaml")
            file.write_text(compiled, encoding="utf-8")
            return self._call(self._uploads.upload_pipeline_version, str(file), name=name, pipelineid=pipeline_id)

    def _pages(self, listing: Callable[..., Any], field: str, **query: Any) -> Iterator[Any]:
        token = ""
        while True:
            page = self._call(listing, page_size=PAGE_SIZE, page_token=token, **query)
            yield from getattr(page, field) or ()
            token = page.next_page_token
            if not token:
                return

    def _call(self, method: Callable[..., Any], *arguments: Any, **query: Any) -> Any:
        """Call a method of `kfp_server_api`, which accepts any page as an answer."""
        try:
            answer = method(*arguments, _request_timeout=TIMEOUT, **query)
            json.loads(self._api.last_response.data)
        except (kfp.ApiException, HTTPError) as error:
            raise api_error(self.host, error) from error
        except ValueError as error:  # not JSON, or not even text
            raise not_the_api(self.host) from error
        return answer


def _set_token(configuration: Any, token: str | None) -> None:
    """Send a token with every request. That of a service account is read each time: Kubernetes renews it."""
    file = Path(os.environ.get(SERVICE_ACCOUNT_VARIABLE) or SERVICE_ACCOUNT_TOKEN)

    def read_token(configuration: Any) -> None:
        configuration.api_key["authorization"] = file.read_text(encoding="utf-8").strip()

    configuration.api_key_prefix["authorization"] = "Bearer"
    if token:
        if not (token.isascii() and token.isprintable()) or " " in token:
            raise KubeflowError("the token has characters that no HTTP header can contain; copy it again")
        configuration.api_key["authorization"] = token
    elif file.is_file():
        read_token(configuration)
        configuration.refresh_api_key_hook = read_token


def _named(name: str) -> str:
    """Return the filter (v2beta1Filter) for objects of this display name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "string_value": name}]})


def _find_or_create(find: Callable[[], Found | None], create: Callable[[], Found]) -> Found:
    found = find()
    if found is not None:
        return found
    try:
        return create()
    except KubeflowError:
        found = find()  # another client may have created it in the meantime
        if found is None:
            raise
        return found


def _starts_the_same(one: Any, other: Any) -> bool:
    def content(run: Any) -> tuple[Any, ...]:
        cron = run.trigger and run.trigger.cron_schedule
        version, config = run.pipeline_version_reference, run.runtime_config
        return run.mode, cron and cron.cron, version and version.pipeline_version_id, config and config.parameters

    return content(one) == content(other)
