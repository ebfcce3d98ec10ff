-- Rights: what the extension made is its owner's alone, but for what the list at the end grants to its roles.

-- Roles -------------------------------------------------------------------------------------------------------------

-- They are the cluster's: made by the first database that needs them, used by all, and left when the extension goes.
-- Somebody may have made one before, with himself as a member, to have its rights one day; so may an honest
-- administrator, or a dump of the cluster's roles. Only a person can tell them apart, and is told.
DO $$
DECLARE
    role    record;
    members text;
BEGIN
    FOR role IN
        SELECT *
        FROM (
            VALUES
                ('klaviyo_admin', 'klaviyo_sync: sets up accounts and decides about dead letters; also klaviyo_writer and klaviyo_reader'),
                ('klaviyo_gateway', 'klaviyo_sync: what the gateway runs as'),
                ('klaviyo_reader', 'klaviyo_sync: sees messages, customers'' data included, and how delivery stands'),
                ('klaviyo_writer', 'klaviyo_sync: queues messages and asks what became of them')
        ) AS r (name, comment)
    LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role.name);
            EXECUTE format('COMMENT ON ROLE %I IS %L', role.name, role.comment);
        EXCEPTION
            -- Unique violation: another database's CREATE EXTENSION was faster by a moment.
            WHEN duplicate_object OR unique_violation THEN
                IF EXISTS (
                    SELECT FROM pg_authid AS a
                    WHERE a.rolname = role.name
                      AND (a.rolcanlogin OR a.rolsuper OR a.rolcreaterole OR a.rolcreatedb OR a.rolreplication
                           OR a.rolbypassrls OR NOT a.rolinherit)
                ) THEN
                    RAISE EXCEPTION 'role "%" exists and is more than a group', role.name
                        USING ERRCODE = 'object_not_in_prerequisite_state',
                              DETAIL = 'klaviyo_sync grants rights to the roles klaviyo_admin, klaviyo_gateway, klaviyo_reader and klaviyo_writer, which must be NOLOGIN and INHERIT, and have no other attribute.',
                              HINT = format('Rename or drop that role, or change it: ALTER ROLE %I NOLOGIN INHERIT NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS.', role.name);
                END IF;
                SELECT string_agg(quote_ident(m.rolname), ', ' ORDER BY m.rolname)
                INTO members
                FROM pg_auth_members AS g
                JOIN pg_authid AS m ON m.oid = g.member
                WHERE g.roleid = (SELECT a.oid FROM pg_authid AS a WHERE a.rolname = role.name)
                  AND m.rolname <> 'klaviyo_admin' AND NOT m.rolsuper;
                IF members IS NOT NULL THEN
                    RAISE WARNING 'role "%" exists and has members, who get its rights in this database: %', role.name, members
                        USING HINT = format('Those who should not: REVOKE %I FROM …', role.name);
                END IF;
        END;
    END LOOP;
    IF NOT pg_has_role('klaviyo_admin', 'klaviyo_reader', 'USAGE') OR NOT pg_has_role('klaviyo_admin', 'klaviyo_writer', 'USAGE') THEN
        GRANT klaviyo_reader, klaviyo_writer TO klaviyo_admin;
    END IF;
END
$$;

-- Nothing by itself -------------------------------------------------------------------------------------------------

-- Not only PUBLIC is refused: default privileges of the role that creates the extension may have granted things to
-- anyone.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        WITH member AS (
            SELECT d.classid, d.objid
            FROM pg_depend AS d
            JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'klaviyo_sync'
            WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
        )
        SELECT DISTINCT o.kind, o.name, g.grantee
        FROM (
            SELECT 'SCHEMA' AS kind, quote_ident(n.nspname) AS name, n.nspacl AS acl, n.nspowner AS owner, 'n'::"char" AS type
            FROM pg_namespace AS n
            WHERE n.nspname = 'klaviyo'
            UNION ALL
            -- By their schema, since a sequence of an identity column is its table's, and not a member.
            SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass::text, c.relacl, c.relowner,
                   CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r'::"char" END
            FROM pg_class AS c
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname = 'klaviyo' AND c.relkind IN ('r', 'p', 'v', 'S')
            UNION ALL
            SELECT 'FUNCTION', p.oid::regprocedure::text, p.proacl, p.proowner, 'f'::"char"
            FROM pg_proc AS p
            JOIN member AS m ON m.classid = 'pg_proc'::regclass AND m.objid = p.oid
            UNION ALL
            -- An array's rights are its element's. Of a table's row type with rights of its own pg_dump warns each time.
            SELECT 'TYPE', t.oid::regtype::text, t.typacl, t.typowner, 'T'::"char"
            FROM pg_type AS t
            JOIN pg_namespace AS n ON n.oid = t.typnamespace
            WHERE n.nspname = 'klaviyo' AND t.typcategory <> 'A'
              AND NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = t.typrelid AND c.relkind <> 'c')
        ) AS o
        CROSS JOIN LATERAL aclexplode(coalesce(o.acl, acldefault(o.type, o.owner))) AS g
        WHERE g.grantee <> o.owner
    LOOP
        EXECUTE format(
            'REVOKE ALL ON %s %s FROM %s',
            granted.kind,
            granted.name,
            CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE granted.grantee::regrole::text END
        );
    END LOOP;
END
$$;

-- Who may what ------------------------------------------------------------------------------------------------------

-- What is not named here is the owner's alone: account_key, whatever the worker writes, and most helpers.

GRANT EXECUTE ON FUNCTION
    @extschema@.klaviyo_add_to_list,
    @extschema@.klaviyo_create_coupon_code,
    @extschema@.klaviyo_create_list,
    @extschema@.klaviyo_delete_catalog_category,
    @extschema@.klaviyo_delete_catalog_item,
    @extschema@.klaviyo_delete_catalog_variant,
    @extschema@.klaviyo_delete_list,
    @extschema@.klaviyo_in_segment,
    @extschema@.klaviyo_merge_profiles,
    @extschema@.klaviyo_readmit,
    @extschema@.klaviyo_remove_from_list,
    @extschema@.klaviyo_rename_list,
    @extschema@.klaviyo_request_deletion,
    @extschema@.klaviyo_subscribe,
    @extschema@.klaviyo_suppress,
    @extschema@.klaviyo_track_event,
    @extschema@.klaviyo_track_purchase,
    @extschema@.klaviyo_unsubscribe,
    @extschema@.klaviyo_unsuppress,
    @extschema@.klaviyo_upsert_catalog_category,
    @extschema@.klaviyo_upsert_catalog_item,
    @extschema@.klaviyo_upsert_catalog_variant,
    @extschema@.klaviyo_upsert_changes,
    @extschema@.klaviyo_upsert_profile,
    @extschema@.klaviyo_upsert_two_way,
    -- What the triggers of a mapping call, as the table's owner.
    klaviyo.bury_row,
    klaviyo.fault_to_bury,
    klaviyo.is_capturing,
    klaviyo.note_keys,
    klaviyo.notes_keys,
    -- What writes back into a table, as its owner.
    klaviyo.try_update,
    -- What klaviyo_track_purchase() calls, as whoever calls it.
    klaviyo.id_part,
    klaviyo.items_fault,
    klaviyo.of_items,
    klaviyo.purchased_item,
    klaviyo.refuse_message
TO klaviyo_writer;
GRANT USAGE ON SCHEMA klaviyo TO klaviyo_writer;

GRANT EXECUTE ON FUNCTION
    @extschema@.klaviyo_result,
    @extschema@.klaviyo_await
TO klaviyo_writer, klaviyo_reader;
GRANT USAGE ON TYPE klaviyo.result TO klaviyo_reader;

GRANT USAGE ON SCHEMA klaviyo TO klaviyo_reader;
GRANT SELECT ON
    klaviyo.accepted_deletion,
    klaviyo.account,
    klaviyo.account_check,
    klaviyo.account_status,
    klaviyo.acknowledged,
    klaviyo.answer,
    klaviyo.backfill,
    klaviyo.backfill_run,
    klaviyo.bulk_job,
    klaviyo.campaign,
    klaviyo.campaign_day,
    klaviyo.campaign_event,
    klaviyo.campaign_performance,
    klaviyo.campaign_report,
    klaviyo.captured_key,
    klaviyo.clean_up,
    klaviyo.clean_up_profile,
    klaviyo.clean_up_run,
    klaviyo.daily_call,
    klaviyo.dead_letter,
    klaviyo.delivery,
    klaviyo.discarded,
    klaviyo.event,
    klaviyo.flow,
    klaviyo.flow_performance,
    klaviyo.flow_report,
    klaviyo.form_report,
    klaviyo.job,
    klaviyo.job_mark,
    klaviyo.job_plan,
    klaviyo.job_run,
    klaviyo.lane,
    klaviyo.latency,
    klaviyo.list,
    klaviyo.list_day,
    klaviyo.list_growth,
    klaviyo.list_member,
    klaviyo.mapping,
    klaviyo.metric,
    klaviyo.metric_aggregate,
    klaviyo.outbox,
    klaviyo.profile,
    klaviyo.profile_conflict,
    klaviyo.removed_account,
    klaviyo.retry,
    klaviyo.segment,
    klaviyo.segment_growth,
    klaviyo.segment_member,
    klaviyo.segment_report,
    klaviyo.sent_unique_id,
    klaviyo.superseded,
    klaviyo.sync,
    klaviyo.sync_conflict,
    klaviyo.throughput,
    klaviyo.webhook,
    klaviyo.webhook_dead_letter,
    klaviyo.webhook_event,
    klaviyo.webhook_handler,
    klaviyo.webhook_task,
    klaviyo.write_back
TO klaviyo_reader;
-- All but the digest.
GRANT SELECT (message_id, seq, account, identifier, requested_at, requested_by, accepted_at, purged_at, dropped_at, readmitted_at, readmitted_seq)
ON klaviyo.deletion TO klaviyo_reader;
GRANT EXECUTE ON FUNCTION
    @extschema@.klaviyo_health,
    @extschema@.klaviyo_in_segment,
    @extschema@.klaviyo_metrics,
    @extschema@.klaviyo_segment_members,
    @extschema@.klaviyo_sync_show,
    -- What the views call, they call with the rights of whoever looks.
    klaviyo.at,
    klaviyo.gauges,
    klaviyo.job_pause,
    -- Without it nobody finds an id in sent_unique_id.
    klaviyo.unique_id_digest
TO klaviyo_reader;
GRANT USAGE ON TYPE klaviyo.health TO klaviyo_reader;

GRANT USAGE ON SCHEMA klaviyo TO klaviyo_gateway;
GRANT EXECUTE ON FUNCTION
    klaviyo.gateway_health,
    klaviyo.gateway_metrics,
    klaviyo.gateway_webhook
TO klaviyo_gateway;

GRANT EXECUTE ON FUNCTION
    @extschema@.klaviyo_acknowledge,
    @extschema@.klaviyo_arm_account,
    -- A campaign reaches everybody on a list.
    @extschema@.klaviyo_assign_template,
    @extschema@.klaviyo_backfill,
    @extschema@.klaviyo_backfill_cancel,
    @extschema@.klaviyo_backfill_pause,
    @extschema@.klaviyo_backfill_resume,
    -- Whoever calls it may do at Klaviyo whatever the account's key may.
    @extschema@.klaviyo_call,
    @extschema@.klaviyo_cancel_campaign,
    @extschema@.klaviyo_check_account,
    @extschema@.klaviyo_create_campaign,
    @extschema@.klaviyo_discard,
    @extschema@.klaviyo_estimate_campaign,
    @extschema@.klaviyo_mirror_webhooks,
    @extschema@.klaviyo_off_webhook,
    @extschema@.klaviyo_on_webhook,
    @extschema@.klaviyo_pause_account,
    @extschema@.klaviyo_pause_job,
    @extschema@.klaviyo_preview,
    @extschema@.klaviyo_pull_profile,
    @extschema@.klaviyo_receive_webhook,
    @extschema@.klaviyo_redrive,
    @extschema@.klaviyo_redrive_webhook,
    @extschema@.klaviyo_remove_account,
    @extschema@.klaviyo_remove_clean_up,
    @extschema@.klaviyo_remove_job,
    @extschema@.klaviyo_remove_webhook,
    @extschema@.klaviyo_resume_account,
    @extschema@.klaviyo_resume_job,
    @extschema@.klaviyo_run_clean_up,
    @extschema@.klaviyo_run_job,
    @extschema@.klaviyo_send_campaign,
    @extschema@.klaviyo_set_account,
    @extschema@.klaviyo_set_clean_up,
    @extschema@.klaviyo_set_job,
    @extschema@.klaviyo_set_webhook,
    @extschema@.klaviyo_sync_detach,
    @extschema@.klaviyo_sync_events,
    @extschema@.klaviyo_sync_metric,
    @extschema@.klaviyo_sync_pause,
    @extschema@.klaviyo_sync_profiles,
    @extschema@.klaviyo_sync_resume,
    @extschema@.klaviyo_webhook_create,
    @extschema@.klaviyo_webhook_delete,
    @extschema@.klaviyo_webhook_list,
    @extschema@.klaviyo_webhook_topics,
    -- What those of them that are SECURITY INVOKER, and the constraints and the trigger of account, call.
    klaviyo.adopt_mappings,
    klaviyo.begin_job,
    klaviyo.check_changes,
    klaviyo.check_event,
    klaviyo.count_waiting,
    klaviyo.is_armed,
    klaviyo.is_base_url,
    klaviyo.is_private_key,
    klaviyo.is_revision,
    klaviyo.note_removal,
    klaviyo.options_fault,
    klaviyo.preview_rows,
    klaviyo.refuse_unknown_account,
    klaviyo.refuse_unknown_job,
    klaviyo.store_key,
    klaviyo.store_webhook_secret,
    klaviyo.wake_runner,
    klaviyo.wake_worker
TO klaviyo_admin;
-- The trigger guard_account() holds what is written to its rules.
GRANT
    INSERT (name),
    UPDATE (base_url, revision, private_key_file, private_key_env, rate_share, stale_after, stale_action, armed_system,
            armed_database, armed_name, armed_instance, fresh_from, paused_at, paused_reason, changed_at),
    DELETE
ON klaviyo.account TO klaviyo_admin;
GRANT INSERT (account, job, every, names, since, options), UPDATE (every, names, since, options, paused_at, changed_at), DELETE ON klaviyo.job_plan TO klaviyo_admin;
GRANT INSERT (webhook, account), UPDATE (account, changed_at), DELETE ON klaviyo.webhook TO klaviyo_admin;
GRANT SELECT ON klaviyo.outbox_seq_seq TO klaviyo_admin;
