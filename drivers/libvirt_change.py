"""One look at, or one change of, one libvirt domain: blocking code, run in a device's thread.

A change that libvirt makes in one call (create, set) carries its mark in the same call. The others note
the step as begun, act, and note it as applied, so that a look afterwards can tell how a cut-off one ended.
"""

from __future__ import annotations

import threading
from xml.etree import ElementTree as ET

from msgspec import Struct

from drivers.contract import (
    Done,
    Epoch,
    InvalidError,
    NoChange,
    Observation,
    OutcomeUnknownError,
    Settlement,
    StaleEpochError,
    Step,
    StepContext,
)
from drivers.device_state import RefusalError, transition
from drivers.libvirt_binding import libvirt
from drivers.libvirt_connection import wrapped
from drivers.libvirt_marks import Marks, Register, find_domain, put_marks, read_marks, write_marks
from drivers.quantities import size_bytes

__all__ = ["Change", "Domain", "Target", "normalised"]

_DEFAULT_MEMORY = "512MiB"
_NOT_RUNNING = frozenset({libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED})

# Several threads of one pod write its register; between processes the pod's epoch decides.
_register_lock = threading.Lock()


class Target(Struct, frozen=True, kw_only=True):
    """Which domain stands behind a resource, and what a new one is made of."""

    path: str
    name: str
    xml: str = ""  # of a new domain; name, memory, vcpu and marks are put into it

    @property
    def pod(self) -> str:
        """The path of the resource's pod."""
        return self.path.rpartition("/")[0]


class Domain:
    """What a connection shows of a target now.

    Raises:
        UnreachableError: the connection is gone.
    """

    def __init__(self, connection: libvirt.virConnect, target: Target) -> None:
        self.target = target
        self.connection = connection
        try:
            self._look()
        except libvirt.libvirtError as error:
            raise wrapped(error, target.path, begun=False) from error

    def _look(self) -> None:
        self.handle = find_domain(self.connection, self.target.name)
        self.state = None if self.handle is None else _state(self.handle)
        self.pod_epoch: Epoch = ()  # only asked for where there is no domain to hold the epoch
        if self.handle is not None:
            self.marks = read_marks(self.handle)
        else:
            register = Register(self.connection, self.target.pod)
            self.marks, self.pod_epoch = register.gone(self.target.name), register.epoch

    def observation(self, in_flight: str | None = None) -> Observation:
        """Describe it."""
        return Observation(
            exists=self.state is not None,
            state=self.state or {},
            marks=self.marks.keys,
            in_flight=in_flight,
            epoch=self.marks.epoch,
        )

    def claim(self, epoch: Epoch) -> Observation:
        """Raise the fence, of the domain and of its pod, and describe it.

        Raises:
            StaleEpochError: a newer incarnation was here.
            UnreachableError: the connection is gone.
        """
        self.check_fence(epoch)
        try:
            with _register_lock:
                register = Register(self.connection, self.target.pod)
                if register.epoch < epoch[:-1]:
                    register.raise_epoch(epoch[:-1])
            if self.handle is not None:
                self.marks = self.marks.begin(self.marks.begun, epoch, self.target.path)
                write_marks(self.handle, self.marks)
        except libvirt.libvirtError as error:
            raise wrapped(error, self.target.path, begun=False) from error
        return self.observation()

    def check_fence(self, epoch: Epoch) -> None:
        """Refuse an old epoch, and a domain that belongs to another resource.

        Raises:
            StaleEpochError: a newer incarnation was here.
            InvalidError: the domain is somebody else's.
        """
        if epoch < self.marks.epoch or epoch[:-1] < self.pod_epoch:
            fence = max(self.marks.epoch, self.pod_epoch)
            raise StaleEpochError(f"{self.target.path}: epoch {epoch} is older than {fence}")
        if self.handle is not None and self.marks.path not in ("", self.target.path):
            raise InvalidError(
                f"{self.target.path}: domain {self.target.name} belongs to {self.marks.path}"
            )

    def settle(self, step: Step, key: str) -> Settlement:
        """Say whether the step under `key` was applied."""
        if key in self.marks.keys:
            return Settlement.APPLIED
        if self.marks.begun != key:
            return Settlement.NOT_APPLIED
        try:
            fits = transition(self.state, step.verb, normalised(step)) == self.state
        except RefusalError:
            return Settlement.NOT_APPLIED
        return Settlement.APPLIED if fits else Settlement.NOT_APPLIED


class Change:
    """One step on one domain; `run` it once."""

    def __init__(self, domain: Domain, step: Step, ctx: StepContext) -> None:
        self._domain = domain
        self._step = step
        self._ctx = ctx
        self._params = normalised(step)
        self._begun = False

    def run(self) -> Done | NoChange:
        """Apply the step.

        Raises:
            DriverError: as the contract says of `apply`.
        """
        domain = self._domain
        try:
            domain.check_fence(self._ctx.epoch)
            if self._ctx.key in domain.marks.keys:
                return NoChange("done before", domain.observation())
            after = transition(domain.state, self._step.verb, self._params)
            if after == domain.state:
                self._note_no_change()
                return NoChange("", domain.observation())
            self._act()
        except RefusalError as error:
            raise InvalidError(f"{domain.target.path}: {error}") from error
        except libvirt.libvirtError as error:
            raise wrapped(error, domain.target.path, begun=self._begun) from error
        return self._read_back(after)

    def _note_no_change(self) -> None:
        self._domain.marks = self._begin().end(self._ctx.key)
        if self._domain.handle is not None:
            write_marks(self._domain.handle, self._domain.marks)
        else:
            self._bury(self._domain.marks)

    def _act(self) -> None:
        handle, marks = self._domain.handle, self._begin()
        self._begun = True
        if self._step.verb in ("create", "set"):
            self._define(marks.end(self._ctx.key))
            return
        assert handle is not None
        write_marks(handle, marks)
        if self._step.verb == "destroy":
            # The key first: once the domain is gone there is no place for it.
            self._bury(marks.end(self._ctx.key))
            _destroy(handle)
            return
        self._switch(handle)
        write_marks(handle, marks.end(self._ctx.key))

    def _switch(self, handle: libvirt.virDomain) -> None:
        match self._step.verb:
            case "start":
                handle.create()
            case "stop":
                handle.destroy()
            case "snapshot":
                root = ET.Element("domainsnapshot")
                ET.SubElement(root, "name").text = str(self._params["name"])
                handle.snapshotCreateXML(ET.tostring(root, "unicode"), 0)
            case "drop_snapshot":
                handle.snapshotLookupByName(str(self._params["name"])).delete()

    def _define(self, marks: Marks) -> None:
        domain = self._domain
        if domain.handle is None:
            root = ET.fromstring(domain.target.xml or _new_xml(domain.connection))
        elif (domain.state or {}).get("running"):
            self._begun = False
            raise RefusalError("cannot set while it runs; stop it first")
        else:
            root = ET.fromstring(domain.handle.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        _put(root, "name", domain.target.name)
        for name, tags in (("memory", ("memory", "currentMemory")), ("vcpus", ("vcpu",))):
            if name in self._params:
                for tag in tags:
                    _put(root, tag, str(self._params[name]))
        put_marks(root, marks)
        domain.connection.defineXML(ET.tostring(root, "unicode"))

    def _bury(self, marks: Marks) -> None:
        target = self._domain.target
        with _register_lock:
            Register(self._domain.connection, target.pod).bury(target.name, marks)

    def _begin(self) -> Marks:
        return self._domain.marks.begin(self._ctx.key, self._ctx.epoch, self._domain.target.path)

    def _read_back(self, after: dict[str, object] | None) -> Done:
        target = self._domain.target
        try:
            now = Domain(self._domain.connection, target)
        except Exception as error:
            raise OutcomeUnknownError(f"{target.path}: done, not read back: {error}") from error
        if now.state != after:
            raise OutcomeUnknownError(f"{target.path}: done, but it is {now.state}, not {after}")
        return Done("", now.observation())


def normalised(step: Step) -> dict[str, object]:
    """Return the parameters as they appear in the state.

    Raises:
        InvalidError: a size cannot be read.
    """
    params = dict(step.params)
    if step.verb == "create":
        params = {"memory": _DEFAULT_MEMORY, "vcpus": 1, **params}
    if "memory" in params:
        params["memory"] = _memory(_kib(step, params["memory"]))
    return params


def _kib(step: Step, memory: object) -> int:
    try:
        kib = size_bytes(memory) // 1024
    except ValueError as error:
        raise InvalidError(f"{step.verb} memory: {error}") from error
    if kib < 1024:
        raise InvalidError(f"{step.verb} memory={memory} is below 1MiB")
    return kib


def _state(handle: libvirt.virDomain) -> dict[str, object]:
    power, memory_kib, _, vcpus, _ = handle.info()
    state: dict[str, object] = {
        "running": power not in _NOT_RUNNING,
        "memory": _memory(memory_kib),
        "vcpus": vcpus,
    }
    snapshots = sorted(handle.snapshotListNames())
    return {**state, "snapshots": snapshots} if snapshots else state


def _destroy(handle: libvirt.virDomain) -> None:
    if handle.isActive():
        handle.destroy()
    # Children first: a snapshot with children is not deleted.
    for snapshot in handle.listAllSnapshots(libvirt.VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL)[::-1]:
        snapshot.delete()
    handle.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)


def _new_xml(connection: libvirt.virConnect) -> str:
    return f"<domain type='{connection.getType().lower()}'><os><type>hvm</type></os></domain>"


def _put(root: ET.Element, tag: str, text: str) -> None:
    found = root.find(tag)
    if found is None:
        found = ET.SubElement(root, tag)
    found.attrib.clear()
    found.text = text
    if tag in ("memory", "currentMemory"):
        found.set("unit", "KiB")
        found.text = str(size_bytes(text) // 1024)


def _memory(kib: int) -> str:
    return f"{kib // 1024}MiB" if kib % 1024 == 0 else f"{kib}KiB"
