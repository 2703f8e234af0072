"""Compares the rights that the chart grants with those that the operator used, by the audit logs of both sites.

usage: rights.py ROLES.json AUDIT.log...   (ROLES.json: kubectl get of the operator's ClusterRole and Roles)
Prints what was granted and never used, and what was refused; fails if there is either. What was refused and then allowed counts
as allowed: an API server learns of a right that was just given a moment after it, and the operator tries again.
"""

import json
import sys

USER = "system:serviceaccount:data-embassy-system:data-embassy-controller"


def granted(path):
    """(group, resource, verb) of every rule."""
    rights = set()
    for role in json.load(open(path))["items"]:
        for rule in role["rules"]:
            for group in rule.get("apiGroups", [""]):
                for resource in rule.get("resources", []):
                    rights.update((group, resource, verb) for verb in rule["verbs"])
    return rights


def used(paths):
    """What was done, and what was refused to the end, with the first time of each refusal."""
    done, refused = set(), {}
    for path in paths:
        for line in open(path):
            event = json.loads(line)
            if event.get("user", {}).get("username") != USER or event.get("stage") != "ResponseComplete":
                continue
            thing = event.get("objectRef")
            if not thing or "resource" not in thing:
                continue
            resource = thing["resource"] + ("/" + thing["subresource"] if thing.get("subresource") else "")
            right = (thing.get("apiGroup", ""), resource, event["verb"])
            place = (path, right, thing.get("namespace", ""), thing.get("name", ""))
            if event["responseStatus"]["code"] == 403:
                refused.setdefault(place, event["requestReceivedTimestamp"])
            else:
                done.add(right)
                refused.pop(place, None)
    return done, refused


def text(right):
    group, resource, verb = right
    return f"{verb} {resource}{'.' + group if group else ''}"


def main():
    rights = granted(sys.argv[1])
    done, refused = used(sys.argv[2:])
    # `bind` and `create` by server-side apply are checked inside another request and are never a verb of their own.
    silent = {right for right in rights if right[2] == "bind"}
    for group, resource, verb in list(rights):
        if verb == "create" and (group, resource, "patch") in done:
            silent.add((group, resource, verb))
    unused = rights - done - silent
    for right in sorted(unused):
        print(f"granted and never used: {text(right)}")
    for (_, right, namespace, name), since in sorted(refused.items()):
        print(f"refused at {since} and never allowed: {text(right)} {namespace}/{name}")
    print(f"{len(rights)} rights granted, {len(done)} seen in use")
    sys.exit(1 if unused or refused else 0)


main()
