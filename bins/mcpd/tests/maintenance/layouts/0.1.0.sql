-- The store of an mcpd 0.1.0, with one of everything; tokens, records and counters end late, so that this data does not.
-- master key: mcpk_sttclV2rb8bxVziz6cSyLF6uNyHQuPmzE-mYhiq0IqwEUu2kg
-- token of admin: mcpd_1P49Pyf3TvDDCsFAy3qH-jmVeFuVEJwOGcd2T3pOH-wFxLcYw
-- token of alice: mcpd_j7xzknh0chQ7yMKaa1TXfeBadrJPLzU4s4paNLbH_B0xxaefQ
BEGIN TRANSACTION;
CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO "_sqlx_migrations" VALUES(1,'begin','2026-11-27 09:12:42',1,X'730E3201FAEDAFD29DB9EA90E4DE4570242909E46247860945737A0647ADC0191C9B45ACD422E6D605346A892AA7D7D2',1312661);
INSERT INTO "_sqlx_migrations" VALUES(2,'sign in and records','2026-11-27 09:12:42',1,X'E741C046E703EAEE7A3A8630F1C555040F3002A4FF662C9DD3AF6A53E6881AA2DB2DC94CEC692C97441E4BA60D856862',1066275);
INSERT INTO "_sqlx_migrations" VALUES(3,'limits and cost','2026-11-27 09:12:42',1,X'32F6FE1958E9446A886D709EA7A34448162B898879A56034E3BFD6304476FEF10B3D37FF2412206AA4610598284E8197',1726165);
INSERT INTO "_sqlx_migrations" VALUES(4,'signing keys','2026-11-27 09:12:42',1,X'A7B82E2A40C63233679C583303F968E2E67674A1B3840854A3517A65A0D1D23113C5513C2569862FABB5BB798D11FD62',538020);
INSERT INTO "_sqlx_migrations" VALUES(5,'journal','2026-11-27 09:12:42',1,X'1853F48E0F92923E95C2120AC9937353BE5F45E8ED98B2A421FFAC1309956F4405983E2628ED95D4DD24D164178A9BAD',2155052);
INSERT INTO "_sqlx_migrations" VALUES(7,'token uses','2026-11-27 09:12:42',1,X'87970FEAB4D9BED0B80F5027AACC85B05BA29250BEB5A002BA4144BA221F934CE6371DD1255A3AEA1E582938BCA3C762',549457);
INSERT INTO "_sqlx_migrations" VALUES(8,'journal bounds','2026-11-27 09:12:42',1,X'040E1861E3CA8F0E386C43E376230898C597F893617864C99AE0454E34570CF926EAEF844A3F6791F56E0BA207A3D5C5',1846855);
INSERT INTO "_sqlx_migrations" VALUES(9,'usage target','2026-11-27 09:12:42',1,X'DD37C9F5A1A1D36DD4600C6B962F0689296820AFBF81B1DEA67D4FA6B73F600FC4934163ECA1F1A38E418442D5F7D295',766079);
INSERT INTO "_sqlx_migrations" VALUES(10,'rare actions','2026-11-27 09:12:42',1,X'61F50042AA6E66136C3A720D730EBA7352D47A4F9168AB3881851B4626535CD6B42709F56D9707D7A05822CE5830F2C6',590547);
CREATE TABLE audit (
    id            TEXT   PRIMARY KEY,
    at            BIGINT NOT NULL,
    principal     TEXT   NOT NULL,
    action        TEXT   NOT NULL,
    kind          TEXT   NOT NULL,
    resource_id   TEXT,
    resource_name TEXT   NOT NULL,
    decision      TEXT   NOT NULL,
    reason        TEXT   NOT NULL,
    revision      BIGINT NOT NULL,
    request_id    TEXT   NOT NULL
, principal_id TEXT, token_id TEXT, agent_id TEXT, line_seq BIGINT, line_hash TEXT, line TEXT, reported_by TEXT, reported_by_id TEXT, confirmed BIGINT NOT NULL DEFAULT 0, line_prev TEXT, proof_nonce TEXT, reported_at BIGINT);
INSERT INTO "audit" VALUES('01a21c47-45c9-71ed-9ac8-7b37577367ff',2111130762697000,'mcpd','create','Role','clxygsw0a7t7deddq46txvf5q','admin','allowed','',1,'',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO "audit" VALUES('01a21c47-45c9-71ed-9ac8-7b3808958b3f',2111130762697000,'mcpd','create','Role','ctwt69izf7v8kbt9ckywsvonu','editor','allowed','',2,'',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO "audit" VALUES('01a21c47-45c9-71ed-9ac8-7b3905ee639b',2111130762697000,'mcpd','create','Role','ckgxwsgxiyyf689ayaoeyro1q','viewer','allowed','',3,'',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO "audit" VALUES('01a21c47-45c9-71ed-9ac8-7b3aac97d63a',2111130762697000,'mcpd','create','Role','cbv4div118kwcqlidrv0g7vut','llm-user','allowed','',4,'',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO "audit" VALUES('01a21c47-45c9-71ed-9ac8-7b3b775e43a8',2111130762697000,'mcpd','create','User','cr1ef679edasa028ondyrodmn','admin','allowed','',5,'',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO "audit" VALUES('01a21c47-45c9-71ed-9ac8-7b3c5e42ce4f',2111130762697000,'mcpd','create','RoleBinding','cxp76gjuva4oi41dshf24uz3a','admin','allowed','',6,'',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO "audit" VALUES('01a21c47-45c9-71ed-9ac8-7b3d16dbcda1',2111130762697000,'mcpd','create','Token','cbhsz7c4yl5shbuv93kpy3yrb','bootstrap-cduyfxii9svx61ngj62em8iaf','allowed','',7,'',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO "audit" VALUES('01a21c47-5153-717d-a2b2-f579aa751f02',2111130765651000,'User admin','create','Secret','ce8320jl2rzngiie76c3jbu71','openai','allowed','',8,'01a21c47-5122-710a-b415-59a093703168','cr1ef679edasa028ondyrodmn','cbhsz7c4yl5shbuv93kpy3yrb',NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO "audit" VALUES('01a21c47-5153-717d-a2b2-f57a7ade08c8',2111130765651000,'User admin','create','Llm','ch6dbdpmoglk7q51vjpvsjkci','gpt','allowed','',9,'01a21c47-5122-710a-b415-59a093703168','cr1ef679edasa028ondyrodmn','cbhsz7c4yl5shbuv93kpy3yrb',NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO "audit" VALUES('01a21c47-5153-717d-a2b2-f57b8c2f9085',2111130765651000,'User admin','create','User','cp13mg70jfd3606jr01nxlu5l','alice','allowed','',10,'01a21c47-5122-710a-b415-59a093703168','cr1ef679edasa028ondyrodmn','cbhsz7c4yl5shbuv93kpy3yrb',NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO "audit" VALUES('01a21c47-5153-717d-a2b2-f57c4a506aa9',2111130765651000,'User admin','create','Group','ci146mohd0uywoyqj97wy6s9k','team','allowed','',11,'01a21c47-5122-710a-b415-59a093703168','cr1ef679edasa028ondyrodmn','cbhsz7c4yl5shbuv93kpy3yrb',NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO "audit" VALUES('01a21c47-5153-717d-a2b2-f57d98200e60',2111130765651000,'User admin','create','RoleBinding','cltmksq1jhwir2xqnvu5tf5fg','team-llms','allowed','',12,'01a21c47-5122-710a-b415-59a093703168','cr1ef679edasa028ondyrodmn','cbhsz7c4yl5shbuv93kpy3yrb',NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO "audit" VALUES('01a21c47-5153-717d-a2b2-f57e2d5290fd',2111130765651000,'User admin','create','ServiceAccount','chj5gzz7e1qijkqv9my3s62bp','ci','allowed','',13,'01a21c47-5122-710a-b415-59a093703168','cr1ef679edasa028ondyrodmn','cbhsz7c4yl5shbuv93kpy3yrb',NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO "audit" VALUES('01a21c47-5153-717d-a2b2-f57f1e70b6ea',2111130765651000,'User admin','create','Limit','cjjr6lutpi0oskrql5b0e0zrz','all','allowed','',14,'01a21c47-5122-710a-b415-59a093703168','cr1ef679edasa028ondyrodmn','cbhsz7c4yl5shbuv93kpy3yrb',NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO "audit" VALUES('01a21c47-5178-726a-8165-eaa9381a7a7d',2111130765688000,'User admin','create','Token','czniz3r5vp46llst6ykxjyh4e','alice-laptop','allowed','',15,'01a21c47-5175-765e-9fb3-4f567a99f526','cr1ef679edasa028ondyrodmn','cbhsz7c4yl5shbuv93kpy3yrb',NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO "audit" VALUES('01a21c47-5196-763d-ae01-fe9305763d58',2111130765718000,'User admin','create','Token','ci1cb0m7w34igh5uqc0drrrvy','admin-long','allowed','',16,'01a21c47-5193-7313-86be-d1c1d22c3597','cr1ef679edasa028ondyrodmn','cbhsz7c4yl5shbuv93kpy3yrb',NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO "audit" VALUES('01a21c47-52be-717f-af5c-d55d00d201dc',2111130766014000,'User alice','run','Llm','ch6dbdpmoglk7q51vjpvsjkci','gpt','allowed','',16,'01a21c47-52be-717f-af5c-d55c8025bfad','cp13mg70jfd3606jr01nxlu5l','czniz3r5vp46llst6ykxjyh4e',NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO "audit" VALUES('01a21c47-52e6-7259-804a-9c74801d10a2',2111130766055000,'User alice','run','Llm','ch6dbdpmoglk7q51vjpvsjkci','gpt','allowed','',16,'01a21c47-52e6-7259-804a-9c7398525e5e','cp13mg70jfd3606jr01nxlu5l','czniz3r5vp46llst6ykxjyh4e',NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO "audit" VALUES('01a21c47-5306-7379-a9ed-c796ae270a5c',2111130766086000,'User admin','delete','ServiceAccount','chj5gzz7e1qijkqv9my3s62bp','ci','allowed','',17,'01a21c47-5304-702c-a0ce-3ed274f5f65d','cr1ef679edasa028ondyrodmn','cbhsz7c4yl5shbuv93kpy3yrb',NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,NULL);
INSERT INTO "audit" VALUES('019ac000-0000-7000-8000-000000000001',2111130766086001,'User alice','journal-lost','Llm',NULL,'gpt','allowed','',1,'','cp13mg70jfd3606jr01nxlu5l',NULL,'cagent00000000000000000a1',1,'192f055ebb30155155a3237921c9eaa55c0709ccf1f172778e1e3f890c19bd61','{"seq":1,"prev":"9c815f3fa24591484968098794668d9cad8615f8d804861f9843c727b5cdba11","at":"2026-11-20T10:00:00Z","event":"lost"}','User alice','cp13mg70jfd3606jr01nxlu5l',0,'9c815f3fa24591484968098794668d9cad8615f8d804861f9843c727b5cdba11',NULL,1795770766086001);
CREATE TABLE changes (
    revision BIGINT PRIMARY KEY,
    kind     TEXT   NOT NULL,
    id       TEXT   NOT NULL,
    name     TEXT   NOT NULL,
    op       TEXT   NOT NULL,
    at       BIGINT NOT NULL,
    actor    TEXT   NOT NULL,
    body     TEXT
);
INSERT INTO "changes" VALUES(1,'Role','clxygsw0a7t7deddq46txvf5q','admin','put',2111130762697703,'mcpd','{"kind":"Role","name":"admin","id":"clxygsw0a7t7deddq46txvf5q","revision":1,"createdAt":"2026-11-27T09:12:42.694570685Z","updatedAt":"2026-11-27T09:12:42.694570685Z","description":"everything","rules":[{"kinds":["*"],"verbs":["*"],"names":["*"]}]}');
INSERT INTO "changes" VALUES(2,'Role','ctwt69izf7v8kbt9ckywsvonu','editor','put',2111130762697703,'mcpd','{"kind":"Role","name":"editor","id":"ctwt69izf7v8kbt9ckywsvonu","revision":2,"createdAt":"2026-11-27T09:12:42.694570685Z","updatedAt":"2026-11-27T09:12:42.694570685Z","description":"all but people, roles, limits and tokens","rules":[{"kinds":["llms","secrets"],"verbs":["view","run","use","create","edit","delete"],"names":["*"]}]}');
INSERT INTO "changes" VALUES(3,'Role','ckgxwsgxiyyf689ayaoeyro1q','viewer','put',2111130762697703,'mcpd','{"kind":"Role","name":"viewer","id":"ckgxwsgxiyyf689ayaoeyro1q","revision":3,"createdAt":"2026-11-27T09:12:42.694570685Z","updatedAt":"2026-11-27T09:12:42.694570685Z","description":"view everything","rules":[{"kinds":["*"],"verbs":["view"],"names":["*"]}]}');
INSERT INTO "changes" VALUES(4,'Role','cbv4div118kwcqlidrv0g7vut','llm-user','put',2111130762697703,'mcpd','{"kind":"Role","name":"llm-user","id":"cbv4div118kwcqlidrv0g7vut","revision":4,"createdAt":"2026-11-27T09:12:42.694570685Z","updatedAt":"2026-11-27T09:12:42.694570685Z","description":"view and run all Llms","rules":[{"kinds":["llms"],"verbs":["view","run"],"names":["*"]}]}');
INSERT INTO "changes" VALUES(5,'User','cr1ef679edasa028ondyrodmn','admin','put',2111130762697703,'mcpd','{"kind":"User","name":"admin","id":"cr1ef679edasa028ondyrodmn","revision":5,"createdAt":"2026-11-27T09:12:42.694570685Z","updatedAt":"2026-11-27T09:12:42.694570685Z","displayName":"the first administrator"}');
INSERT INTO "changes" VALUES(6,'RoleBinding','cxp76gjuva4oi41dshf24uz3a','admin','put',2111130762697703,'mcpd','{"kind":"RoleBinding","name":"admin","id":"cxp76gjuva4oi41dshf24uz3a","revision":6,"createdAt":"2026-11-27T09:12:42.694570685Z","updatedAt":"2026-11-27T09:12:42.694570685Z","role":"admin","subjects":[{"kind":"User","name":"admin"}]}');
INSERT INTO "changes" VALUES(7,'Token','cbhsz7c4yl5shbuv93kpy3yrb','bootstrap-cduyfxii9svx61ngj62em8iaf','put',2111130762697703,'mcpd','{"kind":"Token","name":"bootstrap-cduyfxii9svx61ngj62em8iaf","id":"cbhsz7c4yl5shbuv93kpy3yrb","revision":7,"createdAt":"2026-11-27T09:12:42.694570685Z","updatedAt":"2026-11-27T09:12:42.694570685Z","subject":{"kind":"User","name":"admin"},"subjectId":"cr1ef679edasa028ondyrodmn","expiresAt":"2026-12-27T09:12:42.694570685Z"}');
INSERT INTO "changes" VALUES(8,'Secret','ce8320jl2rzngiie76c3jbu71','openai','put',2111130765651522,'User admin','{"kind":"Secret","name":"openai","id":"ce8320jl2rzngiie76c3jbu71","revision":8,"createdAt":"2026-11-27T09:12:45.636Z","updatedAt":"2026-11-27T09:12:45.636Z","data":{"token":null}}');
INSERT INTO "changes" VALUES(9,'Llm','ch6dbdpmoglk7q51vjpvsjkci','gpt','put',2111130765651522,'User admin','{"kind":"Llm","name":"gpt","id":"ch6dbdpmoglk7q51vjpvsjkci","revision":9,"createdAt":"2026-11-27T09:12:45.636Z","updatedAt":"2026-11-27T09:12:45.636Z","type":"openai","url":"http://127.0.0.1:3399/","model":"m","apiKey":{"secret":"openai","key":"token","secretId":"ce8320jl2rzngiie76c3jbu71","attachedBy":["cr1ef679edasa028ondyrodmn"]},"timeouts":{"connect":"3s","response":"30s","answer":"10m","firstToken":"2m","idle":"1m"},"retries":{"max":2}}');
INSERT INTO "changes" VALUES(10,'User','cp13mg70jfd3606jr01nxlu5l','alice','put',2111130765651522,'User admin','{"kind":"User","name":"alice","id":"cp13mg70jfd3606jr01nxlu5l","revision":10,"createdAt":"2026-11-27T09:12:45.636Z","updatedAt":"2026-11-27T09:12:45.636Z"}');
INSERT INTO "changes" VALUES(11,'Group','ci146mohd0uywoyqj97wy6s9k','team','put',2111130765651522,'User admin','{"kind":"Group","name":"team","id":"ci146mohd0uywoyqj97wy6s9k","revision":11,"createdAt":"2026-11-27T09:12:45.636Z","updatedAt":"2026-11-27T09:12:45.636Z","members":[{"kind":"User","name":"alice"}]}');
INSERT INTO "changes" VALUES(12,'RoleBinding','cltmksq1jhwir2xqnvu5tf5fg','team-llms','put',2111130765651522,'User admin','{"kind":"RoleBinding","name":"team-llms","id":"cltmksq1jhwir2xqnvu5tf5fg","revision":12,"createdAt":"2026-11-27T09:12:45.636Z","updatedAt":"2026-11-27T09:12:45.636Z","role":"llm-user","subjects":[{"kind":"Group","name":"team"}]}');
INSERT INTO "changes" VALUES(13,'ServiceAccount','chj5gzz7e1qijkqv9my3s62bp','ci','put',2111130765651522,'User admin','{"kind":"ServiceAccount","name":"ci","id":"chj5gzz7e1qijkqv9my3s62bp","revision":13,"createdAt":"2026-11-27T09:12:45.636Z","updatedAt":"2026-11-27T09:12:45.636Z"}');
INSERT INTO "changes" VALUES(14,'Limit','cjjr6lutpi0oskrql5b0e0zrz','all','put',2111130765651522,'User admin','{"kind":"Limit","name":"all","id":"cjjr6lutpi0oskrql5b0e0zrz","revision":14,"createdAt":"2026-11-27T09:12:45.636Z","updatedAt":"2026-11-27T09:12:45.636Z","per":"subject","requests":{"max":1000,"window":"1h"}}');
INSERT INTO "changes" VALUES(15,'Token','czniz3r5vp46llst6ykxjyh4e','alice-laptop','put',2111130765688266,'User admin','{"kind":"Token","name":"alice-laptop","id":"czniz3r5vp46llst6ykxjyh4e","revision":15,"createdAt":"2026-11-27T09:12:45.687Z","updatedAt":"2026-11-27T09:12:45.687Z","subject":{"kind":"User","name":"alice"},"subjectId":"cp13mg70jfd3606jr01nxlu5l","expiresAt":"2027-11-27T09:12:45.687Z","issuedBy":["cr1ef679edasa028ondyrodmn"]}');
INSERT INTO "changes" VALUES(16,'Token','ci1cb0m7w34igh5uqc0drrrvy','admin-long','put',2111130765718548,'User admin','{"kind":"Token","name":"admin-long","id":"ci1cb0m7w34igh5uqc0drrrvy","revision":16,"createdAt":"2026-11-27T09:12:45.717Z","updatedAt":"2026-11-27T09:12:45.717Z","subject":{"kind":"User","name":"admin"},"subjectId":"cr1ef679edasa028ondyrodmn","expiresAt":"2027-11-27T09:12:45.717Z"}');
INSERT INTO "changes" VALUES(17,'ServiceAccount','chj5gzz7e1qijkqv9my3s62bp','ci','delete',2111130766086585,'User admin',NULL);
CREATE TABLE journal_chains (
    agent_id    TEXT   NOT NULL,
    reporter_id TEXT   NOT NULL,
    seq         BIGINT NOT NULL,
    hash        TEXT   NOT NULL,
    updated_at  BIGINT NOT NULL,
    PRIMARY KEY (agent_id, reporter_id)
);
INSERT INTO "journal_chains" VALUES('cagent00000000000000000a1','cp13mg70jfd3606jr01nxlu5l',1,'192f055ebb30155155a3237921c9eaa55c0709ccf1f172778e1e3f890c19bd61',1795770766086001);
CREATE TABLE journal_days (
    reporter_id TEXT   NOT NULL,
    day         BIGINT NOT NULL,
    bytes       BIGINT NOT NULL,
    PRIMARY KEY (reporter_id, day)
);
INSERT INTO "journal_days" VALUES('cp13mg70jfd3606jr01nxlu5l',20784,2500);
CREATE TABLE limit_counters (
    limit_id   TEXT   NOT NULL,
    subject_id TEXT   NOT NULL,
    counts     TEXT   NOT NULL,
    state      TEXT   NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (limit_id, subject_id, counts)
);
INSERT INTO "limit_counters" VALUES('cjjr6lutpi0oskrql5b0e0zrz','cp13mg70jfd3606jr01nxlu5l','requests/1h','1795770720000:2',2111138040000);
CREATE TABLE login_counters (
    key         BLOB   PRIMARY KEY,
    refilled_at BIGINT NOT NULL
);
INSERT INTO "login_counters" VALUES(X'000102030405060708090A0B0C0D0E0F',1795770766086001);
CREATE TABLE resources (
    id           TEXT   PRIMARY KEY,
    kind         TEXT   NOT NULL,
    name         TEXT   NOT NULL,
    revision     BIGINT NOT NULL,
    body         TEXT   NOT NULL,
    confidential BLOB,
    UNIQUE (kind, name)
);
INSERT INTO "resources" VALUES('clxygsw0a7t7deddq46txvf5q','Role','admin',1,'{"kind":"Role","name":"admin","id":"clxygsw0a7t7deddq46txvf5q","revision":1,"createdAt":"2026-11-27T09:12:42.694570685Z","updatedAt":"2026-11-27T09:12:42.694570685Z","description":"everything","rules":[{"kinds":["*"],"verbs":["*"],"names":["*"]}]}',NULL);
INSERT INTO "resources" VALUES('ctwt69izf7v8kbt9ckywsvonu','Role','editor',2,'{"kind":"Role","name":"editor","id":"ctwt69izf7v8kbt9ckywsvonu","revision":2,"createdAt":"2026-11-27T09:12:42.694570685Z","updatedAt":"2026-11-27T09:12:42.694570685Z","description":"all but people, roles, limits and tokens","rules":[{"kinds":["llms","secrets"],"verbs":["view","run","use","create","edit","delete"],"names":["*"]}]}',NULL);
INSERT INTO "resources" VALUES('ckgxwsgxiyyf689ayaoeyro1q','Role','viewer',3,'{"kind":"Role","name":"viewer","id":"ckgxwsgxiyyf689ayaoeyro1q","revision":3,"createdAt":"2026-11-27T09:12:42.694570685Z","updatedAt":"2026-11-27T09:12:42.694570685Z","description":"view everything","rules":[{"kinds":["*"],"verbs":["view"],"names":["*"]}]}',NULL);
INSERT INTO "resources" VALUES('cbv4div118kwcqlidrv0g7vut','Role','llm-user',4,'{"kind":"Role","name":"llm-user","id":"cbv4div118kwcqlidrv0g7vut","revision":4,"createdAt":"2026-11-27T09:12:42.694570685Z","updatedAt":"2026-11-27T09:12:42.694570685Z","description":"view and run all Llms","rules":[{"kinds":["llms"],"verbs":["view","run"],"names":["*"]}]}',NULL);
INSERT INTO "resources" VALUES('cr1ef679edasa028ondyrodmn','User','admin',5,'{"kind":"User","name":"admin","id":"cr1ef679edasa028ondyrodmn","revision":5,"createdAt":"2026-11-27T09:12:42.694570685Z","updatedAt":"2026-11-27T09:12:42.694570685Z","displayName":"the first administrator"}',NULL);
INSERT INTO "resources" VALUES('cxp76gjuva4oi41dshf24uz3a','RoleBinding','admin',6,'{"kind":"RoleBinding","name":"admin","id":"cxp76gjuva4oi41dshf24uz3a","revision":6,"createdAt":"2026-11-27T09:12:42.694570685Z","updatedAt":"2026-11-27T09:12:42.694570685Z","role":"admin","subjects":[{"kind":"User","name":"admin"}]}',NULL);
INSERT INTO "resources" VALUES('cbhsz7c4yl5shbuv93kpy3yrb','Token','bootstrap-cduyfxii9svx61ngj62em8iaf',7,'{"kind":"Token","name":"bootstrap-cduyfxii9svx61ngj62em8iaf","id":"cbhsz7c4yl5shbuv93kpy3yrb","revision":7,"createdAt":"2026-11-27T09:12:42.694570685Z","updatedAt":"2026-11-27T09:12:42.694570685Z","subject":{"kind":"User","name":"admin"},"subjectId":"cr1ef679edasa028ondyrodmn","expiresAt":"2125-01-01T00:00:00Z"}',X'4EAA1342AD20DE2C5625396A5342EAB86E9578F126BA6755DD1A5D23F739EEDF');
INSERT INTO "resources" VALUES('ce8320jl2rzngiie76c3jbu71','Secret','openai',8,'{"kind":"Secret","name":"openai","id":"ce8320jl2rzngiie76c3jbu71","revision":8,"createdAt":"2026-11-27T09:12:45.636Z","updatedAt":"2026-11-27T09:12:45.636Z","data":{"token":null}}',X'01E25A6F2FA28126250A8FF04DD018FFE0069AEFA08419673F99D4877174E0AECC5684420E98154500CC9EB8163847C1B75DB2B31CE3CB69DC8327A35775850521E38323E78B8A9217CA18029A933B063DBDEB229F64D1BCE56C7735588DD67B79C9A26CD5CCEE12EB1B729BBF81D4B47FBD718A35F24A3509CD131401071617FF15BC7B157CD11421F18AAF25CABA1158F764B981');
INSERT INTO "resources" VALUES('ch6dbdpmoglk7q51vjpvsjkci','Llm','gpt',9,'{"kind":"Llm","name":"gpt","id":"ch6dbdpmoglk7q51vjpvsjkci","revision":9,"createdAt":"2026-11-27T09:12:45.636Z","updatedAt":"2026-11-27T09:12:45.636Z","type":"openai","url":"http://127.0.0.1:3399/","model":"m","apiKey":{"secret":"openai","key":"token","secretId":"ce8320jl2rzngiie76c3jbu71","attachedBy":["cr1ef679edasa028ondyrodmn"]},"timeouts":{"connect":"3s","response":"30s","answer":"10m","firstToken":"2m","idle":"1m"},"retries":{"max":2}}',NULL);
INSERT INTO "resources" VALUES('cp13mg70jfd3606jr01nxlu5l','User','alice',10,'{"kind":"User","name":"alice","id":"cp13mg70jfd3606jr01nxlu5l","revision":10,"createdAt":"2026-11-27T09:12:45.636Z","updatedAt":"2026-11-27T09:12:45.636Z"}',NULL);
INSERT INTO "resources" VALUES('ci146mohd0uywoyqj97wy6s9k','Group','team',11,'{"kind":"Group","name":"team","id":"ci146mohd0uywoyqj97wy6s9k","revision":11,"createdAt":"2026-11-27T09:12:45.636Z","updatedAt":"2026-11-27T09:12:45.636Z","members":[{"kind":"User","name":"alice"}]}',NULL);
INSERT INTO "resources" VALUES('cltmksq1jhwir2xqnvu5tf5fg','RoleBinding','team-llms',12,'{"kind":"RoleBinding","name":"team-llms","id":"cltmksq1jhwir2xqnvu5tf5fg","revision":12,"createdAt":"2026-11-27T09:12:45.636Z","updatedAt":"2026-11-27T09:12:45.636Z","role":"llm-user","subjects":[{"kind":"Group","name":"team"}]}',NULL);
INSERT INTO "resources" VALUES('cjjr6lutpi0oskrql5b0e0zrz','Limit','all',14,'{"kind":"Limit","name":"all","id":"cjjr6lutpi0oskrql5b0e0zrz","revision":14,"createdAt":"2026-11-27T09:12:45.636Z","updatedAt":"2026-11-27T09:12:45.636Z","per":"subject","requests":{"max":1000,"window":"1h"}}',NULL);
INSERT INTO "resources" VALUES('czniz3r5vp46llst6ykxjyh4e','Token','alice-laptop',15,'{"kind":"Token","name":"alice-laptop","id":"czniz3r5vp46llst6ykxjyh4e","revision":15,"createdAt":"2026-11-27T09:12:45.687Z","updatedAt":"2026-11-27T09:12:45.687Z","subject":{"kind":"User","name":"alice"},"subjectId":"cp13mg70jfd3606jr01nxlu5l","expiresAt":"2125-01-01T00:00:00Z","issuedBy":["cr1ef679edasa028ondyrodmn"]}',X'299BAC165652EA390A9BA0D7E3BB40CBA4D159969838D6FA4D6FC379E2A0E765');
INSERT INTO "resources" VALUES('ci1cb0m7w34igh5uqc0drrrvy','Token','admin-long',16,'{"kind":"Token","name":"admin-long","id":"ci1cb0m7w34igh5uqc0drrrvy","revision":16,"createdAt":"2026-11-27T09:12:45.717Z","updatedAt":"2026-11-27T09:12:45.717Z","subject":{"kind":"User","name":"admin"},"subjectId":"cr1ef679edasa028ondyrodmn","expiresAt":"2125-01-01T00:00:00Z"}',X'9DF83842E6E6ECBED8CA7CE3ED801755B626725E82EB887D1EECDD1AC59E0DFB');
CREATE TABLE revision (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    current BIGINT  NOT NULL
);
INSERT INTO "revision" VALUES(1,17);
CREATE TABLE settings (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
);
INSERT INTO "settings" VALUES('master-key-canary',X'01E25A6F2FA2812625466805824F898DA98B7C817D73BEBA27247C2C4EB2F8D717F7ACFCBDE0AF74B78D56B8EAFDD29C1F7B7289687893B1C8399775D26DA213BEB23D756A14BF42E1658C49982835F838CB2C5CF093E3574B6E8FE5BF92B5E28B26B0369C05632DD7982F06B9923D5C90A002E192EA6D93B4D8A32B6E130C99B9B0EB262D1E16342129');
CREATE TABLE signing_keys (
    number  BIGINT PRIMARY KEY,
    sealed  BLOB NOT NULL,
    made_at BIGINT NOT NULL
);
INSERT INTO "signing_keys" VALUES(1,X'01E25A6F2FA2812625C9E478D3AE9548CFC005B204477D0DC612A7347E9924921816F0196C49C4A9F89CE43D0BDE28E350D84AC05432309D97189BC5F29C0FA2BCA3F7A99F38FD4B403710073C8B99165721194F8BF7196DA3F048EC34B5F292D7B5E0B492CE38745A4C4CE1A20CA98C97AA08F4E76C13B41D3F5FFAFB17F3134470BC26E991CA888CF0BFD51AE3C216CA5345B96F574155FD9C1CA4028F7240E96D2D2003B0D2A9D99EED55556B6F179D4EFEC8C957D3C19E',1795770762703104);
INSERT INTO "signing_keys" VALUES(2,X'01E25A6F2FA28126250C32AA9404E04152CCBB86624FB51AC34506451490F8A8ABDDCFF1B4DB08212AEE0FAC66F8094AA0A32BBAC060A14104B7D9CE712936CF34B07A9A7D599C5C9FCB938E7C8ABC097528216008B20A7F130A54B8DE1AD52CAF95988E31A33044195C3D15EA88A3A844414CE42E740AD48C43AD27A40B41C1640E35FBA74E7AED84937D61BB3F72E78734F56F16CEF0D2B5599FECB472440E0DE6BF818F9A766B6D8B350C322ED2C5EF7DFD34002C8B229A',1795770762703177);
CREATE TABLE token_uses (
    token_id TEXT   PRIMARY KEY,
    used_at  BIGINT NOT NULL
);
INSERT INTO "token_uses" VALUES('cbhsz7c4yl5shbuv93kpy3yrb',1795770766085000);
INSERT INTO "token_uses" VALUES('czniz3r5vp46llst6ykxjyh4e',1795770766068000);
CREATE TABLE usage (
    id            TEXT   PRIMARY KEY,
    at            BIGINT NOT NULL,
    principal     TEXT   NOT NULL,
    token_id      TEXT   NOT NULL,
    llm_id        TEXT   NOT NULL,
    llm_name      TEXT   NOT NULL,
    model         TEXT   NOT NULL,
    input_tokens  BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    stream        BIGINT NOT NULL,
    outcome       TEXT   NOT NULL,
    status        BIGINT NOT NULL,
    attempts      BIGINT NOT NULL,
    duration_ms   BIGINT NOT NULL,
    request_id    TEXT   NOT NULL
, cached_input_tokens BIGINT NOT NULL DEFAULT 0, cache_write_input_tokens BIGINT NOT NULL DEFAULT 0, reasoning_tokens BIGINT NOT NULL DEFAULT 0, estimated BIGINT NOT NULL DEFAULT 0, cost_nanos BIGINT, target TEXT);
INSERT INTO "usage" VALUES('01a21c47-52c1-77d5-bcd0-f8f289d772f5',2111130766017000,'User alice','czniz3r5vp46llst6ykxjyh4e','ch6dbdpmoglk7q51vjpvsjkci','gpt','m',12,7,0,'ok',200,1,6,'01a21c47-52be-717f-af5c-d55c8025bfad',0,0,0,0,NULL,NULL);
INSERT INTO "usage" VALUES('01a21c47-52e8-765e-a8c4-527bb9312da6',2111130766056000,'User alice','czniz3r5vp46llst6ykxjyh4e','ch6dbdpmoglk7q51vjpvsjkci','gpt','m',12,7,0,'ok',200,1,3,'01a21c47-52e6-7259-804a-9c7398525e5e',0,0,0,0,NULL,NULL);
CREATE INDEX audit_at ON audit (at);
CREATE INDEX usage_at ON usage (at);
CREATE INDEX login_counters_refilled_at ON login_counters (refilled_at);
CREATE INDEX limit_counters_expires_at ON limit_counters (expires_at);
CREATE UNIQUE INDEX audit_line ON audit (agent_id, line_seq, line_hash) WHERE line_hash IS NOT NULL;
CREATE INDEX audit_principal_id ON audit (principal_id, at);
CREATE INDEX journal_chains_reporter ON journal_chains (reporter_id);
CREATE INDEX audit_line_prev ON audit (agent_id, line_prev) WHERE line_prev IS NOT NULL;
CREATE UNIQUE INDEX audit_proof ON audit (agent_id, proof_nonce) WHERE proof_nonce IS NOT NULL;
CREATE INDEX audit_principal ON audit (principal, at);
CREATE INDEX audit_agent ON audit (agent_id, at) WHERE agent_id IS NOT NULL;
CREATE INDEX audit_rare_action ON audit (action, at) WHERE action NOT IN ('run', 'view');
COMMIT;
