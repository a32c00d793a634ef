#!/usr/bin/python
"""Ansible's lsh_job: one job of lsh-systemd as a task. All is done by `lshctl apply` and `lshctl remove` over there."""

import json
import re

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: lsh_job
short_description: A scheduled job of lsh-systemd
description:
  - Makes a job as it is described, changes it, or removes it, with C(lshctl) on the host.
  - What is wrong with a description is told by C(lshctl); then nothing has changed.
options:
  name:
    description: The job's name.
    type: str
    required: true
  state:
    description: Whether there is to be such a job.
    type: str
    choices: [present, absent]
    default: present
  job:
    description:
      - Its fields, as in job files (C(lshctl schema) lists them); C(command), C(schedule), C(run_as), C(enabled)…
      - What is left out is as C(lshctl add) has it without the option. Required for O(state=present).
    type: dict
  scope:
    description: Jobs of the machine, or of the task's user; where it is left out, root's are the machine's.
    type: str
    choices: [system, user]
  project:
    description: Whose job it is, for C(lshctl apply --prune) of files of the same project.
    type: str
    default: ansible
  force:
    description: Undo what was edited by hand; take another project's job; remove one that others follow.
    type: bool
    default: false
  executable:
    description: lshctl, where it is not in the PATH.
    type: str
    default: lshctl
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
author: [the developers of lsh-systemd]
"""

EXAMPLES = r"""
- name: A nightly dump
  lsh.systemd.lsh_job:
    name: Nightly dump
    job:
      schedule: 0 2 * * *
      run_as: postgres
      command: pg_dump shop | gzip > /backups/shop.sql.gz
      timeout: 1h
      on_failure: [page-me]

- name: No more of it
  lsh.systemd.lsh_job:
    name: Nightly dump
    state: absent
"""

RETURN = r"""
id:
  description: The job's id. Its units are lsh-ID.service and lsh-ID.timer.
  returned: success
  type: str
difference:
  description: Field → what it was and what it is, where the job is changed.
  returned: success
  type: dict
"""

# lshctl would take these for variables of the file.
_BLANK = re.compile(r"(\\?)\{\{[ \t]*([A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)?)[ \t]*\}\}")
# How lshctl says that there is no such job, by name or id.
_NO_JOB = re.compile(r"^lshctl: there is no job ", re.MULTILINE)
_DIFFERS = 3


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "job": {"type": "dict"},
            "scope": {"type": "str", "choices": ["system", "user"]},
            "project": {"type": "str", "default": "ansible"},
            "force": {"type": "bool", "default": False},
            "executable": {"type": "str", "default": "lshctl"},
        },
        required_if=[("state", "present", ["job"])],
        supports_check_mode=True,
    )
    module.exit_json(**(_present(module) if module.params["state"] == "present" else _absent(module)))


def _present(module):
    """Have `lshctl apply` make the job what it is to be; what there is to say of it."""
    name, project = module.params["name"], module.params["project"]
    described = {"project": project, "jobs": {_escaped(name): _escaped(module.params["job"])}}
    # Values of secrets have no field; a described job is no secret.
    given = json.dumps(described, ensure_ascii=False)
    words = [*_options(module), *(["--dry-run"] if module.check_mode else [])]
    status, out, err = _call(module, "apply", "-f", "-", "--json", *words, data=given)
    if status not in (0, _DIFFERS if module.check_mode else 0):
        _fail(module, status, err)
    (step,) = json.loads(out)["jobs"]
    changed = step["action"] != "unchanged"
    difference = step["difference"] if changed else {}
    return _result(step["id"], changed=changed, difference=difference)


def _absent(module):
    """Remove the job where there is one."""
    name = module.params["name"]
    status, out, err = _call(module, "show", "--json", "--", name)
    if status and _NO_JOB.search(err):
        return _result(name, changed=False, difference={})
    if status:
        _fail(module, status, err)
    shown = json.loads(out)
    job_id, definition = shown["id"], shown.get("definition") or {}
    words = [*_options(module), *(["--dry-run"] if module.check_mode else [])]
    status, out, err = _call(module, "remove", *words, job_id)
    if status:
        _fail(module, status, err)
    return _result(job_id, changed=True, difference={field: [value, None] for field, value in definition.items()})


def _result(job_id, *, changed, difference):
    """What Ansible is told; ``diff`` is what --diff prints."""
    before = {field: pair[0] for field, pair in difference.items() if pair[0] is not None}
    after = {field: pair[1] for field, pair in difference.items() if pair[1] is not None}
    texts = {side: json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False) + "\n" if told else ""
             for side, told in (("before", before), ("after", after))}  # fmt: skip
    told = {"before_header": f"job {job_id}", "after_header": f"job {job_id}", **texts}
    return {"changed": changed, "id": job_id, "difference": difference, "diff": told}


def _options(module):
    return ["--force"] if module.params["force"] else []


def _call(module, *words, data=None):
    scope = module.params["scope"]
    argv = [module.params["executable"], *([f"--{scope}"] if scope else []), *words]
    return module.run_command(argv, data=data, handle_exceptions=True)


def _fail(module, status, err):
    module.fail_json(msg=err.strip() or f"lshctl ended with exit status {status}", rc=status)


def _escaped(value):
    """The same, of which lshctl takes nothing for a variable of the file: Ansible has filled its own in already."""
    if isinstance(value, str):
        return _BLANK.sub(lambda found: "\\" + found[0], value)
    if isinstance(value, dict):
        return {name: _escaped(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_escaped(each) for each in value]
    return value


if __name__ == "__main__":
    main()
