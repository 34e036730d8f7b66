"""The fields of ADK's events, by model. A test generates them from google-adk and checks that they are current.

A model is its treatment of unknown fields, then its fields as ``name:type``. Marks after the type: ``?`` may be null,
``!`` is required, ``=alias`` is a spelling in REST that is not plain camelCase, ``#`` is the default.
``[T]`` is a list, ``{T}`` an object with values of T, ``<T>`` a sorted set, ``'a'|'b'`` one of these strings.
"""

from __future__ import annotations

MODELS: dict[str, str] = {
    "Event": """
        ignore model_version:str? content:Content? grounding_metadata:GroundingMetadata? partial:bool?
        turn_complete:bool? turn_complete_reason:str? interaction_status:str? finish_reason:str? error_code:str?
        error_message:str? interrupted:bool? custom_metadata:{any}? usage_metadata:GenerateContentResponseUsageMetadata?
        live_session_resumption_update:LiveServerSessionResumptionUpdate? live_session_id:str? go_away:LiveServerGoAway?
        voice_activity:VoiceActivity? input_transcription:Transcription? output_transcription:Transcription?
        avg_logprobs:float? logprobs_result:LogprobsResult? cache_metadata:CacheMetadata?
        citation_metadata:CitationMetadata? interaction_id:str? environment_id:str? invocation_id:str author:str
        actions:EventActions output:any? node_info:NodeInfo long_running_tool_ids:<str>? branch:str?
        isolation_scope:str? id:str timestamp:float
    """,
    "Content": "forbid parts:[Part]? role:str?",
    "Part": """
        forbid media_resolution:PartMediaResolution? code_execution_result:CodeExecutionResult?
        executable_code:ExecutableCode? file_data:FileData? function_call:FunctionCall?
        function_response:FunctionResponse? inline_data:Blob? text:str? thought:bool? thought_signature:bytes?
        video_metadata:VideoMetadata? tool_call:ToolCall? tool_response:ToolResponse? part_metadata:{any}?
        audio_transcription:Transcription? media_processing:str? speech_metadata:SpeechMetadata?
    """,
    "PartMediaResolution": "forbid level:str? num_tokens:int?",
    "CodeExecutionResult": "forbid outcome:str? output:str? id:str?",
    "ExecutableCode": "forbid code:str? language:str? id:str?",
    "FileData": "forbid display_name:str? file_uri:str? mime_type:str?",
    "FunctionCall": "forbid id:str? args:{any}? name:str? partial_args:[PartialArg]? will_continue:bool?",
    "PartialArg": """
        forbid bool_value:bool? json_path:str? null_value:'NULL_VALUE'? number_value:float? string_value:str?
        will_continue:bool?
    """,
    "FunctionResponse": """
        forbid will_continue:bool? scheduling:str? parts:[FunctionResponsePart]? id:str? name:str? response:{any}?
    """,
    "FunctionResponsePart": """
        forbid inline_data:FunctionResponseBlob? file_data:FunctionResponseFileData? media_processing:str?
    """,
    "FunctionResponseBlob": "forbid mime_type:str? data:bytes? display_name:str?",
    "FunctionResponseFileData": "forbid file_uri:str? mime_type:str? display_name:str?",
    "Blob": "forbid data:bytes? display_name:str? mime_type:str?",
    "VideoMetadata": "forbid end_offset:str? fps:float? start_offset:str?",
    "ToolCall": "forbid id:str? tool_type:str? args:{any}?",
    "ToolResponse": "forbid id:str? tool_type:str? response:{any}?",
    "Transcription": """
        forbid text:str? finished:bool? language_code:str? speaker_label:str? words:[WordInfo]? start_offset:str?
        end_offset:str?
    """,
    "WordInfo": "forbid word:str? start_offset:str? end_offset:str?",
    "SpeechMetadata": "forbid speaker:str? style:str?",
    "GroundingMetadata": """
        forbid image_search_queries:[str]? grounding_chunks:[GroundingChunk]? grounding_supports:[GroundingSupport]?
        retrieval_metadata:RetrievalMetadata? search_entry_point:SearchEntryPoint? web_search_queries:[str]?
        google_maps_widget_context_token:str? retrieval_queries:[str]?
        source_flagging_uris:[GroundingMetadataSourceFlaggingUri]?
    """,
    "GroundingChunk": """
        forbid image:GroundingChunkImage? maps:GroundingChunkMaps? retrieved_context:GroundingChunkRetrievedContext?
        web:GroundingChunkWeb?
    """,
    "GroundingChunkImage": "forbid source_uri:str? image_uri:str? title:str? domain:str?",
    "GroundingChunkMaps": """
        forbid place_answer_sources:GroundingChunkMapsPlaceAnswerSources? place_id:str? text:str? title:str? uri:str?
        route:GroundingChunkMapsRoute?
    """,
    "GroundingChunkMapsPlaceAnswerSources": """
        forbid review_snippet:[GroundingChunkMapsPlaceAnswerSourcesReviewSnippet]? flag_content_uri:str?
        review_snippets:[GroundingChunkMapsPlaceAnswerSourcesReviewSnippet]?
    """,
    "GroundingChunkMapsPlaceAnswerSourcesReviewSnippet": """
        forbid author_attribution:GroundingChunkMapsPlaceAnswerSourcesAuthorAttribution? flag_content_uri:str?
        google_maps_uri:str? relative_publish_time_description:str? review:str? review_id:str? title:str?
    """,
    "GroundingChunkMapsPlaceAnswerSourcesAuthorAttribution": "forbid display_name:str? photo_uri:str? uri:str?",
    "GroundingChunkMapsRoute": "forbid distance_meters:int? duration:str? encoded_polyline:str?",
    "GroundingChunkRetrievedContext": """
        forbid document_name:str? rag_chunk:RagChunk? text:str? title:str? uri:str?
        custom_metadata:[GroundingChunkCustomMetadata]? file_search_store:str? page_number:int? media_id:str?
    """,
    "RagChunk": "forbid page_span:RagChunkPageSpan? text:str? chunk_id:str? file_id:str?",
    "RagChunkPageSpan": "forbid first_page:int? last_page:int?",
    "GroundingChunkCustomMetadata": """
        forbid key:str? numeric_value:float? string_list_value:GroundingChunkStringList? string_value:str?
    """,
    "GroundingChunkStringList": "forbid values:[str]?",
    "GroundingChunkWeb": "forbid domain:str? title:str? uri:str?",
    "GroundingSupport": """
        forbid confidence_scores:[float]? grounding_chunk_indices:[int]? segment:Segment? rendered_parts:[int]?
    """,
    "Segment": "forbid start_index:int? end_index:int? part_index:int? text:str?",
    "RetrievalMetadata": "forbid google_search_dynamic_retrieval_score:float?",
    "SearchEntryPoint": "forbid rendered_content:str? sdk_blob:bytes?",
    "GroundingMetadataSourceFlaggingUri": "forbid flag_content_uri:str? source_id:str?",
    "GenerateContentResponseUsageMetadata": """
        forbid cache_tokens_details:[ModalityTokenCount]? cached_content_token_count:int? candidates_token_count:int?
        candidates_tokens_details:[ModalityTokenCount]? prompt_token_count:int?
        prompt_tokens_details:[ModalityTokenCount]? thoughts_token_count:int? tool_use_prompt_token_count:int?
        tool_use_prompt_tokens_details:[ModalityTokenCount]? total_token_count:int? traffic_type:str?
    """,
    "ModalityTokenCount": "forbid modality:str? token_count:int?",
    "LiveServerSessionResumptionUpdate": """
        forbid new_handle:str? resumable:bool? last_consumed_client_message_index:int?
    """,
    "LiveServerGoAway": "forbid time_left:str?",
    "VoiceActivity": "forbid voice_activity_type:str? audio_offset:str?",
    "LogprobsResult": """
        forbid chosen_candidates:[LogprobsResultCandidate]? top_candidates:[LogprobsResultTopCandidates]?
        log_probability_sum:float?
    """,
    "LogprobsResultCandidate": "forbid log_probability:float? token:str? token_id:int?",
    "LogprobsResultTopCandidates": "forbid candidates:[LogprobsResultCandidate]?",
    "CacheMetadata": """
        forbid cache_name:str?=cache_name expire_time:float?=expire_time fingerprint:str!
        invocations_used:uint?=invocations_used contents_count:uint!=contents_count created_at:float?=created_at
    """,
    "CitationMetadata": "forbid citations:[Citation]?",
    "Citation": """
        forbid end_index:int? license:str? publication_date:GoogleTypeDate? start_index:int? title:str? uri:str?
    """,
    "GoogleTypeDate": "forbid day:int? month:int? year:int?",
    "EventActions": """
        forbid skip_summarization:bool? state_delta:{any} artifact_delta:{int} transfer_to_agent:str?
        transfer_reason:str? escalate:bool? requested_auth_configs:{AuthConfig}
        requested_tool_confirmations:{ToolConfirmation} compaction:EventCompaction? end_of_agent:bool?
        agent_state:{any}? rewind_before_invocation_id:str? route:bool|int|str|[bool|int|str]?
        render_ui_widgets:[UiWidget]? set_model_response:any?
    """,
    "AuthConfig": """
        allow auth_scheme:CustomAuthScheme! raw_auth_credential:AuthCredential?
        exchanged_auth_credential:AuthCredential? credential_key:str?
    """,
    "CustomAuthScheme": "allow type_:str!",
    "AuthCredential": """
        allow auth_type:'apiKey'|'http'|'oauth2'|'openIdConnect'|'serviceAccount'! resource_ref:str? api_key:str?
        http:HttpAuth? service_account:ServiceAccount? oauth2:OAuth2Auth?
    """,
    "HttpAuth": "allow scheme:str! credentials:HttpCredentials! additional_headers:{str}?",
    "HttpCredentials": "allow username:str? password:str? token:str?",
    "ServiceAccount": """
        allow service_account_credential:ServiceAccountCredential? scopes:[str]? use_default_credential:bool?#false
        use_id_token:bool?#false audience:str?
    """,
    "ServiceAccountCredential": """
        allow type_:str project_id:str! private_key_id:str! private_key:str! client_email:str! client_id:str!
        auth_uri:str! token_uri:str! auth_provider_x509_cert_url:str! client_x509_cert_url:str! universe_domain:str!
    """,
    "OAuth2Auth": """
        allow client_id:str? client_secret:str? auth_uri:str? nonce:str? state:str? redirect_uri:str?
        auth_response_uri:str? auth_code:str? access_token:str? refresh_token:str? id_token:str? expires_at:int?
        expires_in:int? audience:str? prompt:str? code_verifier:str? code_challenge_method:str?
        token_endpoint_auth_method:'client_secret_basic'|'client_secret_post'|'client_secret_jwt'|'private_key_jwt'?#client_secret_basic
    """,
    "ToolConfirmation": "forbid hint:str confirmed:bool payload:any?",
    "EventCompaction": "forbid start_timestamp:float! end_timestamp:float! compacted_content:Content!",
    "UiWidget": "forbid id:str! provider:str! payload:{any}",
    "NodeInfo": "ignore path:str output_for:[str]? message_as_output:bool?",
}
