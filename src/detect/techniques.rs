//! ATT&CK technique ids that detectors may name: those of the Enterprise matrix that concern
//! containers, clusters, identities and the cloud around them. Facts from attack.mitre.org.

/// The version that the ids are of.
pub const VERSION: &str = "17.1";

/// Sorted.
const IDS: &[&str] = &[
    "T1005",
    "T1021",
    "T1021.004",
    "T1021.007",
    "T1021.008",
    "T1027",
    "T1027.010",
    "T1036",
    "T1036.004",
    "T1036.005",
    "T1036.010",
    "T1040",
    "T1041",
    "T1046",
    "T1048",
    "T1049",
    "T1053",
    "T1053.003",
    "T1053.007",
    "T1059",
    "T1059.004",
    "T1059.006",
    "T1059.009",
    "T1059.013",
    "T1068",
    "T1069",
    "T1069.003",
    "T1070",
    "T1070.004",
    "T1071",
    "T1071.001",
    "T1078",
    "T1078.001",
    "T1078.002",
    "T1078.003",
    "T1078.004",
    "T1082",
    "T1083",
    "T1087",
    "T1087.004",
    "T1090",
    "T1090.002",
    "T1090.003",
    "T1095",
    "T1098",
    "T1098.001",
    "T1098.003",
    "T1098.004",
    "T1098.006",
    "T1102",
    "T1105",
    "T1106",
    "T1110",
    "T1110.001",
    "T1110.003",
    "T1110.004",
    "T1119",
    "T1132",
    "T1133",
    "T1134",
    "T1134.001",
    "T1134.003",
    "T1136",
    "T1136.001",
    "T1136.003",
    "T1140",
    "T1187",
    "T1190",
    "T1195",
    "T1195.001",
    "T1195.002",
    "T1199",
    "T1204",
    "T1204.003",
    "T1210",
    "T1212",
    "T1219",
    "T1222",
    "T1485",
    "T1486",
    "T1489",
    "T1490",
    "T1491",
    "T1495",
    "T1496",
    "T1496.001",
    "T1498",
    "T1499",
    "T1505",
    "T1505.003",
    "T1525",
    "T1526",
    "T1528",
    "T1529",
    "T1531",
    "T1537",
    "T1538",
    "T1539",
    "T1543",
    "T1543.005",
    "T1546",
    "T1548",
    "T1548.005",
    "T1550",
    "T1550.001",
    "T1552",
    "T1552.001",
    "T1552.004",
    "T1552.005",
    "T1552.007",
    "T1553",
    "T1554",
    "T1555",
    "T1555.006",
    "T1556",
    "T1556.006",
    "T1556.007",
    "T1556.009",
    "T1557",
    "T1562",
    "T1562.001",
    "T1562.004",
    "T1562.007",
    "T1562.008",
    "T1562.012",
    "T1563",
    "T1564",
    "T1565",
    "T1565.001",
    "T1567",
    "T1570",
    "T1571",
    "T1572",
    "T1573",
    "T1574",
    "T1578",
    "T1578.002",
    "T1578.005",
    "T1580",
    "T1583",
    "T1584",
    "T1588",
    "T1589",
    "T1590",
    "T1592",
    "T1593",
    "T1595",
    "T1595.001",
    "T1595.002",
    "T1601",
    "T1606",
    "T1606.001",
    "T1609",
    "T1610",
    "T1611",
    "T1612",
    "T1613",
    "T1614",
    "T1619",
    "T1620",
    "T1621",
    "T1648",
    "T1649",
    "T1651",
    "T1654",
    "T1665",
    "T1666",
    "T1671",
];

pub fn is_known(id: &str) -> bool {
    IDS.binary_search(&id).is_ok()
}

pub fn ids() -> impl Iterator<Item = &'static str> {
    IDS.iter().copied()
}

/// The matrix's tactics in its order: their short names, as ATT&CK's data have them, and in words.
const TACTICS: [(&str, &str); 14] = [
    ("reconnaissance", "reconnaissance"),
    ("resource-development", "resource development"),
    ("initial-access", "initial access"),
    ("execution", "execution"),
    ("persistence", "persistence"),
    ("privilege-escalation", "privilege escalation"),
    ("defense-evasion", "defense evasion"),
    ("credential-access", "credential access"),
    ("discovery", "discovery"),
    ("lateral-movement", "lateral movement"),
    ("collection", "collection"),
    ("command-and-control", "command and control"),
    ("exfiltration", "exfiltration"),
    ("impact", "impact"),
];

/// A tactic in words.
pub fn tactic_name(tactic: &str) -> &str {
    TACTICS
        .iter()
        .find(|(id, _)| *id == tactic)
        .map_or(tactic, |(_, name)| name)
}

/// A tactic's place in the matrix.
pub fn tactic_order(tactic: &str) -> usize {
    TACTICS
        .iter()
        .position(|(id, _)| *id == tactic)
        .unwrap_or(TACTICS.len())
}

/// The tactics that a technique serves, the one first for which it stands in a cluster's audit log;
/// a sub-technique serves those of its technique. None for an id that is not listed.
pub fn tactics(id: &str) -> &'static [&'static str] {
    const RECONNAISSANCE: &str = "reconnaissance";
    const DEVELOPMENT: &str = "resource-development";
    const ACCESS: &str = "initial-access";
    const EXECUTION: &str = "execution";
    const PERSISTENCE: &str = "persistence";
    const ESCALATION: &str = "privilege-escalation";
    const EVASION: &str = "defense-evasion";
    const CREDENTIALS: &str = "credential-access";
    const DISCOVERY: &str = "discovery";
    const LATERAL: &str = "lateral-movement";
    const COLLECTION: &str = "collection";
    const COMMAND: &str = "command-and-control";
    const EXFILTRATION: &str = "exfiltration";
    const IMPACT: &str = "impact";
    if !is_known(id) {
        return &[];
    }
    match id.split('.').next().unwrap_or(id) {
        "T1005" | "T1119" => &[COLLECTION],
        "T1021" | "T1210" | "T1563" => &[LATERAL],
        "T1027" | "T1036" | "T1070" | "T1140" | "T1222" | "T1553" | "T1562" | "T1564" | "T1578"
        | "T1601" | "T1612" | "T1620" | "T1666" => &[EVASION],
        "T1040" => &[CREDENTIALS, DISCOVERY],
        "T1041" | "T1048" | "T1537" | "T1567" => &[EXFILTRATION],
        "T1046" | "T1049" | "T1069" | "T1082" | "T1083" | "T1087" | "T1526" | "T1538" | "T1580"
        | "T1613" | "T1614" | "T1619" | "T1654" => &[DISCOVERY],
        "T1053" => &[PERSISTENCE, EXECUTION, ESCALATION],
        "T1059" | "T1106" | "T1204" | "T1609" | "T1648" | "T1651" => &[EXECUTION],
        "T1610" => &[EXECUTION, EVASION],
        "T1068" | "T1611" => &[ESCALATION],
        "T1071" | "T1090" | "T1095" | "T1102" | "T1105" | "T1132" | "T1219" | "T1571" | "T1572"
        | "T1573" | "T1665" => &[COMMAND],
        "T1078" => &[ACCESS, PERSISTENCE, ESCALATION, EVASION],
        "T1098" => &[ESCALATION, PERSISTENCE],
        "T1110" | "T1187" | "T1212" | "T1528" | "T1539" | "T1552" | "T1555" | "T1606" | "T1621"
        | "T1649" => &[CREDENTIALS],
        "T1133" => &[ACCESS, PERSISTENCE],
        "T1134" | "T1548" => &[ESCALATION, EVASION],
        "T1136" | "T1505" | "T1525" | "T1554" | "T1671" => &[PERSISTENCE],
        "T1190" | "T1195" | "T1199" => &[ACCESS],
        "T1485" | "T1486" | "T1489" | "T1490" | "T1491" | "T1495" | "T1496" | "T1498" | "T1499"
        | "T1529" | "T1531" | "T1565" => &[IMPACT],
        "T1543" | "T1546" => &[PERSISTENCE, ESCALATION],
        "T1550" => &[LATERAL, EVASION],
        "T1556" => &[CREDENTIALS, PERSISTENCE, EVASION],
        "T1557" => &[CREDENTIALS, COLLECTION],
        "T1570" => &[LATERAL],
        "T1574" => &[PERSISTENCE, ESCALATION, EVASION],
        "T1583" | "T1584" | "T1588" => &[DEVELOPMENT],
        "T1589" | "T1590" | "T1592" | "T1593" | "T1595" => &[RECONNAISSANCE],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorted_for_the_search() {
        assert!(IDS.is_sorted());
    }

    #[test]
    fn every_technique_serves_a_tactic() {
        for id in ids() {
            let served = tactics(id);
            assert!(!served.is_empty(), "{id}");
            assert!(served.iter().all(|t| tactic_order(t) < TACTICS.len()));
        }
        assert!(tactics("T9999").is_empty());
        assert_eq!(tactic_name("defense-evasion"), "defense evasion");
    }
}
