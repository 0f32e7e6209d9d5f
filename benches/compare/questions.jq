# The six questions of ask.py, for jq and jaq: a line `question<TAB>auditID` for each answer.
select(.category == "kube-audit" or .category == "kube-audit-admin")
| .properties.log | fromjson | select(.stage != "RequestReceived")
| .auditID as $id | .verb as $verb | (.user.username // "") as $who
| (.objectRef.resource // "") as $resource | (.objectRef.subresource // "") as $subresource
| (.objectRef.name // "") as $name | (.sourceIPs // []) as $ips
| (if ($ips | length) > 1 and ($ips[-1] | startswith("172.31.")) then $ips[-2] else $ips[-1] // "" end) as $ip
| (
    (select($resource == "pods" and $subresource == "exec") | "exec"),
    (select($resource == "pods" and $subresource == "portforward") | "port-forward"),
    (select($resource == "clusterrolebindings" and $verb == "create") | "binding"),
    (select($resource == "secrets" and ($verb == "get" or $verb == "list") and ($who | startswith("system:") | not)) | "secrets"),
    (select($ip != "" and ($ip | test("^(10\\.|127\\.|169\\.254\\.|192\\.168\\.|172\\.(1[6-9]|2[0-9]|3[01])\\.|100\\.(6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-7])\\.|192\\.0\\.2\\.|::1$|fe80:|f[cd])") | not)) | "foreign"),
    (select($resource == "services" and $subresource == "proxy" and ($name | contains("kubernetes-dashboard"))) | "dashboard")
  )
| . + "\t" + $id
