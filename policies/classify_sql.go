package policies

import (
	"reflect"
	"strings"
)

// sqlClass knows the errors of databases, without importing their drivers: PostgreSQL by its SQLSTATE (pgx, lib/pq), MySQL by
// its number (go-sql-driver) and SQLite by its code (modernc.org, mattn).
func sqlClass(err error) Class {
	if e, ok := err.(interface{ SQLState() string }); ok {
		return sqlState(e.SQLState())
	}
	t := reflect.TypeOf(err)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Name() == "MySQLError" {
		n, _ := number(err, "Number")
		if c := mySQLClass(n); c != "" {
			return c
		}
		if v := field(err, "SQLState"); v.IsValid() && v.Kind() == reflect.Array && v.Type().Elem().Kind() == reflect.Uint8 {
			var state [5]byte
			reflect.Copy(reflect.ValueOf(&state).Elem(), v)
			return sqlState(string(state[:]))
		}
		return ""
	}
	if e, ok := err.(interface{ Code() int }); ok && strings.Contains(t.PkgPath(), "sqlite") {
		return sqliteClass(int64(e.Code()))
	}
	if code, ok := number(err, "Code"); ok {
		if _, ok := number(err, "ExtendedCode"); ok {
			return sqliteClass(code)
		}
	}
	return ""
}

// sqlState is the class of a SQLSTATE, see PostgreSQL's manual, appendix A. What holds for most of a class is by its first two
// characters.
func sqlState(code string) Class {
	if len(code) != 5 {
		return ""
	}
	switch code {
	case "42501": // insufficient privilege
		return Denied
	case "40002": // a constraint, found at the end of the transaction
		return Invalid
	case "57014", "25P04": // statement_timeout or a person; transaction_timeout
		return TimedOut
	case "25006", // read only: a standby, as after a failover
		"25P03", "57P01", "57P02", "57P03", "57P05", // the server ended the session, is starting or shutting down
		"55006", "55P03", // in use, locked
		"58000", "58030": // input and output
		return Transient
	case "57P04", "XX001", "XX002": // database dropped, data corrupted
		return Permanent
	}
	switch code[:2] {
	case "08", "40", "53": // connections; deadlocks and serialization; resources
		return Transient
	case "28": // credentials
		return Denied
	case "21", "22", "23", "54": // data, constraints, what is too large or too complex
		return Invalid
	case "0A", "3D", "3F", "42", "F0": // unsupported, no such database or schema, the statement itself, configuration
		return Permanent
	}
	return ""
}

// mySQLClass is the class of a number of MySQL or MariaDB, see MySQL's error message reference. Numbers that are not listed are
// left to their SQLSTATE.
func mySQLClass(n int64) Class {
	switch n {
	case 1205, 1213, 1614, 3572, // locks and deadlocks
		1040, 1203, // too many connections
		1053, 1077, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 2002, 2003, 2006, 2012, 2013, 2055, // the connection, or a server that stops
		1021, 1037, 1038, 1041, 1135, // disk, memory, threads
		1290, 1836, 1792: // read only, as after a failover
		return Transient
	case 1226: // a quota of the user
		return RateLimited
	case 1969, 3024: // the statement took too long
		return TimedOut
	case 1044, 1045, 1095, 1130, 1131, 1142, 1143, 1227, 1370, 1410, 1698, 1820, 1862, 3118, 3879:
		return Denied
	case 1048, 1062, 1169, 1216, 1217, 1264, 1265, 1292, 1364, 1366, 1406, 1451, 1452, 1557, 1586, 3140, 3819, 4025, // data and constraints
		1153: // a packet that is too large
		return Invalid
	case 1049, 1054, 1064, 1146, 1305:
		return Permanent
	}
	return ""
}

// sqliteClass is the class of a result code of SQLite; extended codes have the primary one in their low byte.
func sqliteClass(code int64) Class {
	switch code & 0xff {
	case 5, 6, 15, 17, // BUSY, LOCKED, PROTOCOL, SCHEMA
		7, 10, 13: // NOMEM, IOERR, FULL
		return Transient
	case 3, 8, 23: // PERM, READONLY, AUTH
		return Denied
	case 18, 19, 20, 25: // TOOBIG, CONSTRAINT, MISMATCH, RANGE
		return Invalid
	case 11, 21, 26: // CORRUPT, MISUSE, NOTADB
		return Permanent
	}
	return "" // ERROR among them, which is everything from a typing mistake to a table that does not exist yet
}
